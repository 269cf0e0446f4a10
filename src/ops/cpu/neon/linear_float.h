// Micro-kernel of linear for float input: F32, F16, and BF16 without its own instructions. Two sums
// for even and odd k, as in ops/cpu/linear_float.h.
#pragma once

#include "ops/cpu/neon/linear_int8.h"

namespace donar::ops::cpu::neon {

// Weights of four outputs for k and k + 1.
struct WeightPair {
  float32x4_t even, odd;
};

template <class V, Format kFormat>
WeightPair load_floats(const std::byte* w, int quad) {
  if constexpr (kFormat == Format::kF32) {
    const auto* values = reinterpret_cast<const float*>(w) + quad * 4;
    return {vld1q_f32(values), vld1q_f32(values + rows16::kTileRows)};
  } else if constexpr (kFormat == Format::kF16) {
    return {load_halves<V>(w + quad * 8), load_halves<V>(w + rows16::kTileRows * 2 + quad * 8)};
  } else {
    const uint32x4_t pairs = vreinterpretq_u32_u8(load_bytes<V>(w + quad * 16));
    return {vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16)),
            vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)))};
  }
}

// sum[r] += w * x[r]
template <class V, int R>
[[gnu::always_inline]] inline void add_product(float32x4_t (&sum)[R], float32x4_t w,
                                               const float* x) {
  if constexpr (R < 4) {
    repeat<R>([&](auto r) { sum[r] = vfmaq_n_f32(sum[r], w, x[r]); });
  } else {
    repeat<R / 4>([&](auto four) {
      const float32x4_t in = vld1q_f32(x + 4 * four);
      repeat<4>([&](auto lane) {
        sum[4 * four + lane] = vfmaq_laneq_f32(sum[4 * four + lane], w, in, lane);
      });
    });
  }
}

template <class V, Format kFormat, int R, int Q>
[[gnu::flatten]] void linear_float(const LinearTile& t, int quad, int64_t row) {
  constexpr int kStep = 2 * rows16::kTileRows * (kFormat == Format::kF32 ? 4 : 2);  // two of k
  float32x4_t even[Q][R], odd[Q][R];
  repeat<Q>([&](auto q) { repeat<R>([&](auto r) { even[q][r] = odd[q][r] = vdupq_n_f32(0); }); });
  const std::byte* w = t.weights;
  const auto* x = reinterpret_cast<const float*>(t.x + row * t.x_row_bytes);
  for (int64_t k = 0; k < t.k; k += 2, w += kStep, x += 2 * R) {
    if constexpr (R <= 2) prefetch<1, kStep>(w);
    repeat<Q>([&](auto q) {
      const WeightPair pair = load_floats<V, kFormat>(w, quad + q);
      add_product<V, R>(even[q], pair.even, x);
      add_product<V, R>(odd[q], pair.odd, x + R);
    });
  }
  repeat<Q>(
      [&](auto q) { repeat<R>([&](auto r) { even[q][r] = vaddq_f32(even[q][r], odd[q][r]); }); });
  store_sums<V, R, Q>(t, quad, row, even);
}

}  // namespace donar::ops::cpu::neon
