// Micro-kernel of linear for int8 input, row by row: four outputs to a register, the input's groups
// of four by lane. Kernels of several rows at once for i8mm are in linear_matrix.h; the terms and
// their order are the same.
#pragma once

#include "ops/cpu/linear_tile.h"
#include "ops/cpu/neon/quad_sum.h"

namespace donar::ops::cpu::neon {

// Four outputs of one row, of which `valid` exist.
template <class V>
void store_quad(float* y, float32x4_t total, const float* bias, int valid) {
  if (valid >= 4) {
    vst1q_f32(y, bias != nullptr ? vaddq_f32(total, vld1q_f32(bias)) : total);
    return;
  }
  float all[4];
  vst1q_f32(all, total);
  for (int i = 0; i < valid; ++i) y[i] = bias != nullptr ? all[i] + bias[i] : all[i];
}

template <class V, int R, int Q>
void store_quads(const LinearTile& t, int quad, int64_t row, const float32x4_t (&total)[Q][R]) {
  for (int q = 0; q < Q; ++q) {
    const int output = (quad + q) * 4;
    for (int r = 0; r < R; ++r) {
      store_quad<V>(t.y + (row + r) * t.y_stride + output, total[q][r],
                    t.bias != nullptr ? t.bias + output : nullptr, t.outputs - output);
    }
  }
}

// Section kSection of a block of four outputs times R rows of 32 int8.
template <CpuIsa kIsa, Format kFormat, int R, int kSection>
void dot_section(const std::byte* block, int quad, const int8x16_t (&x)[R][2],
                 QuadSum<kIsa, kFormat> (&sum)[R]) {
  constexpr int kPairs = 4 / num_sections(kFormat);
  const auto add = [&]<int kPair>() {
    const GroupPair w = load_weights<kIsa, kFormat, kPair>(block, quad);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sum[r].template add<2 * (kPair % 2)>(w, x[r][kPair / 2]);
  };
  constexpr int kFirst = kSection * kPairs;
  add.template operator()<kFirst>();
  add.template operator()<kFirst + 1>();
  if constexpr (kPairs == 4) {
    add.template operator()<kFirst + 2>();
    add.template operator()<kFirst + 3>();
  }
}

template <CpuIsa kIsa, Format kFormat, int R, int Q>
void linear_int8(const LinearTile& t, int quad, int64_t row) {
  using V = VecNeon<kIsa>;
  float32x4_t total[Q][R];
  for (int q = 0; q < Q; ++q) {
    for (int r = 0; r < R; ++r) total[q][r] = vdupq_n_f32(0);
  }
  const std::byte* unit = t.weights;
  Int8Block<V, R> rows{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += unit_blocks(kFormat) * rows16::kBlock) {
    if constexpr (R <= 2) prefetch<V, header_bytes(kFormat)>(unit);
    const UnitScales<V, kFormat> scales(unit);
    const std::byte* block = unit + header_bytes(kFormat);
    for (int b = 0; b < unit_blocks(kFormat); ++b) {
      if constexpr (R <= 2) prefetch<V, block_bytes(kFormat)>(block);
      int8x16_t x[R][2];
      for (int r = 0; r < R; ++r) {
        x[r][0] = vld1q_s8(rows.q(r));
        x[r][1] = vld1q_s8(rows.q(r) + 16);
      }
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        float32x4_t scaled[R];
        const auto section = [&]<int kSection>() {
          QuadSum<kIsa, kFormat> sum[R];
          if constexpr (kHasOffset<kIsa, kFormat>) {
            for (int r = 0; r < R; ++r) sum[r].begin(rows.meta(r).offset[kSection]);
          }
          dot_section<kIsa, kFormat, R, kSection>(block, quad + q, x, sum);
          const float32x4_t scale = scales.scale(b, kSection, quad + q);
          for (int r = 0; r < R; ++r) {
            const float32x4_t dot = vcvtq_f32_s32(sum[r].total());
            scaled[r] = kSection == 0 ? vmulq_f32(dot, scale) : vfmaq_f32(scaled[r], dot, scale);
          }
        };
        section.template operator()<0>();
        if constexpr (num_sections(kFormat) == 2) section.template operator()<1>();
        for (int r = 0; r < R; ++r)
          total[q][r] = vfmaq_n_f32(total[q][r], scaled[r], rows.meta(r).scale);
        if constexpr (has_min(kFormat)) {
          const float32x4_t min = scales.min(b, quad + q);
          for (int r = 0; r < R; ++r)
            total[q][r] = vfmaq_n_f32(total[q][r], min, rows.meta(r).scaled_sum);
        }
      }
      block += block_bytes(kFormat);
      rows.at += R * kInt8BlockBytes;
    }
    unit = block;
  }
  store_quads<V, R, Q>(t, quad, row, total);
}

}  // namespace donar::ops::cpu::neon
