// Micro-kernels of Q4_K and Q5_K weights.
#pragma once

#include "ops/cpu/k_scales.h"
#include "ops/cpu/linear_q4.h"
#include "ops/cpu/linear_q5.h"

namespace donar::ops::cpu {

template <class V, int R, bool kFiveBits>
void linear_q4_k(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int kBlockBytes = kFiveBits ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* super = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += 256, super += rows16::kKHeaderBytes + 8 * kBlockBytes) {
    prefetch<V, rows16::kKHeaderBytes>(super);
    KScales<V> scales(super, half);
    const std::byte* bytes = super + rows16::kKHeaderBytes + half * 4;
    for (int b = 0; b < 8; ++b, bytes += kBlockBytes, x.at += R * kInt8BlockBytes) {
      prefetch<V, kBlockBytes>(bytes);
      I dot[R];
      if constexpr (kFiveBits) {
        typename V::N5 sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::begin_fives(0);
        dot_fives<V, R>(bytes, x, sum);
        for (int r = 0; r < R; ++r) dot[r] = V::end_fives(sum[r], 0);
      } else {
        typename V::N sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::begin_nibbles(0);
        dot_nibbles<V, R>(bytes, x, sum);
        for (int r = 0; r < R; ++r) dot[r] = V::end_nibbles(sum[r], 0);
      }
      F scale, min;
      scales.next(b, scale, min);
      for (int r = 0; r < R; ++r)
        total[r] = V::fma(V::mul(V::to_f32(dot[r]), scale), V::set1(x.meta(r).scale), total[r]);
      for (int r = 0; r < R; ++r) total[r] = V::fma(min, V::set1(x.meta(r).scaled_sum), total[r]);
    }
  }
  store_tile<V, R>(t, half, total, row);
}

}  // namespace donar::ops::cpu
