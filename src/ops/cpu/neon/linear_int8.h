// Micro-kernel of linear for int8 input, row by row: four outputs to a register, the input's groups
// of four by lane. Kernels of several rows at once for i8mm are in linear_matrix.h; the terms and
// their order are the same.
#pragma once

#include "ops/cpu/linear_tile.h"
#include "ops/cpu/neon/quad_sum.h"

namespace donar::ops::cpu::neon {

// [quads][rows] sums of four outputs, from output 4 * quad and from `row` on. Apart, so that the
// sums lie in memory only here.
template <class V>
[[gnu::noinline]] void store_quads(const LinearTile& t, int quad, int quads, int64_t row, int rows,
                                   const float32x4_t* total) {
  for (int q = 0; q < quads; ++q) {
    const int output = (quad + q) * 4;
    const float* bias = t.bias != nullptr ? t.bias + output : nullptr;
    for (int r = 0; r < rows; ++r) {
      float* y = t.y + (row + r) * t.y_stride + output;
      const float32x4_t sum = total[q * rows + r];
      if (t.outputs - output >= 4) {
        vst1q_f32(y, bias != nullptr ? vaddq_f32(sum, vld1q_f32(bias)) : sum);
        continue;
      }
      float all[4];
      vst1q_f32(all, sum);
      for (int i = 0; i < t.outputs - output; ++i)
        y[i] = bias != nullptr ? all[i] + bias[i] : all[i];
    }
  }
}

template <class V, int R, int Q>
[[gnu::always_inline]] inline void store_sums(const LinearTile& t, int quad, int64_t row,
                                              const float32x4_t (&total)[Q][R]) {
  float32x4_t sums[Q * R];
  repeat<Q>([&](auto q) { repeat<R>([&](auto r) { sums[q * R + r] = total[q][r]; }); });
  store_quads<V>(t, quad, Q, row, R, sums);
}

template <CpuIsa kIsa, Format kFormat, int R, int Q>
[[gnu::flatten]] void linear_int8(const LinearTile& t, int quad, int64_t row) {
  using V = VecNeon<kIsa>;
  constexpr int kPairs = 4 / num_sections(kFormat);
  float32x4_t total[Q][R];
  repeat<Q>([&](auto q) { repeat<R>([&](auto r) { total[q][r] = vdupq_n_f32(0); }); });
  const std::byte* unit = t.weights;
  Int8Block<V, R> rows{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += unit_blocks(kFormat) * rows16::kBlock) {
    if constexpr (R <= 2) prefetch<1, header_bytes(kFormat)>(unit);
    const UnitScales<V, kFormat> scales(unit);
    const std::byte* block = unit + header_bytes(kFormat);
    for (int b = 0; b < unit_blocks(kFormat); ++b) {
      if constexpr (R <= 2) prefetch<1, block_bytes(kFormat)>(block);
      int8x16_t x[R][2];
      repeat<R>([&](auto r) {
        x[r][0] = vld1q_s8(rows.q(r));
        x[r][1] = vld1q_s8(rows.q(r) + 16);
      });
      repeat<Q>([&](auto q) {
        float32x4_t scaled[R];
        repeat<num_sections(kFormat)>([&](auto section) {
          QuadSum<kIsa, kFormat> sum[R];
          if constexpr (kHasOffset<kIsa, kFormat>) {
            repeat<R>([&](auto r) { sum[r].begin(rows.meta(r).offset[section]); });
          }
          repeat<kPairs>([&](auto i) {
            constexpr int kPair = section * kPairs + i;
            const GroupPair w = load_weights<kIsa, kFormat, kPair>(block, quad + q);
            repeat<R>([&](auto r) { sum[r].template add<2 * (kPair % 2)>(w, x[r][kPair / 2]); });
          });
          const float32x4_t scale = scales.scale(b, section, quad + q);
          repeat<R>([&](auto r) {
            const float32x4_t dot = vcvtq_f32_s32(sum[r].total());
            scaled[r] = section == 0 ? vmulq_f32(dot, scale) : vfmaq_f32(scaled[r], dot, scale);
          });
        });
        repeat<R>(
            [&](auto r) { total[q][r] = vfmaq_n_f32(total[q][r], scaled[r], rows.meta(r).scale); });
        if constexpr (has_min(kFormat)) {
          const float32x4_t min = scales.min(b, quad + q);
          repeat<R>([&](auto r) {
            total[q][r] = vfmaq_n_f32(total[q][r], min, rows.meta(r).scaled_sum);
          });
        }
      });
      block += block_bytes(kFormat);
      rows.at += R * kInt8BlockBytes;
    }
    unit = block;
  }
  store_sums<V, R, Q>(t, quad, row, total);
}

}  // namespace donar::ops::cpu::neon
