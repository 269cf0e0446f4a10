// Micro-kernels of Q4_K and Q5_K weights.
#pragma once

#include "ops/cpu/k_scales.h"
#include "ops/cpu/linear_q4.h"
#include "ops/cpu/linear_q5.h"

namespace donar::ops::cpu {

template <class V, int R, bool kFiveBits>
class Q4KSums : public Int8Sums<V, R> {
  using Int8Sums<V, R>::total_;

  static constexpr int kBlockBytes =
      kFiveBits ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;

 public:
  static constexpr int kValues = 256;
  static constexpr int kBytes = rows16::kKHeaderBytes + 8 * kBlockBytes;
  static constexpr int kInputBytes = 8 * R * kInt8BlockBytes;

  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* super, int half, const std::byte* input) {
    using F = typename V::F;
    if (half == 0) prefetch<kTiles, rows16::kKHeaderBytes>(super);
    KScales<V> scales(super, half);
    const std::byte* bytes = super + rows16::kKHeaderBytes + half * 4;
    Int8Block<V, R> x{input};
    for (int b = 0; b < 8; ++b, bytes += kBlockBytes, x.at += R * kInt8BlockBytes) {
      if (half == 0) prefetch<kTiles, kBlockBytes>(bytes);
      typename V::I dot[R];
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
        total_[r] = V::fma(V::mul(V::to_f32(dot[r]), scale), V::set1(x.meta(r).scale), total_[r]);
      for (int r = 0; r < R; ++r) total_[r] = V::fma(min, V::set1(x.meta(r).scaled_sum), total_[r]);
    }
  }
};

}  // namespace donar::ops::cpu
