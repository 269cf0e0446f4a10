// Micro-kernels of Q4_0 and Q4_1 weights, and the dot product of nibble blocks.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

template <class V, int R>
[[gnu::always_inline]] inline void dot_nibbles(const std::byte* bytes, const Int8Block<V, R>& x,
                                               typename V::N (&sum)[R]) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const typename V::B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
    const typename V::B low = V::low_nibbles(both);
    const typename V::B high = V::high_nibbles(both);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], low, x.q(r) + 8 * j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], high, x.q(r) + 8 * j + 4);
  }
}

template <class V, int R, bool kMin>
class Q4Sums : public Int8Sums<V, R> {
  using Int8Sums<V, R>::total_;

 public:
  static constexpr int kValues = rows16::kPair;
  static constexpr int kBytes = kMin ? rows16::kQ4_1PairBytes : rows16::kQ4_0PairBytes;
  static constexpr int kInputBytes = 2 * R * kInt8BlockBytes;

  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* w, int half, const std::byte* input) {
    constexpr int kHeader = kBytes - 2 * rows16::kNibbleBlockBytes;
    if (half == 0) prefetch<kTiles, kBytes>(w);
    Int8Block<V, R> x{input};
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      typename V::N sum[R];
      for (int r = 0; r < R; ++r) sum[r] = V::begin_nibbles(kMin ? 0 : x.meta(r).offset[0]);
      dot_nibbles<V, R>(w + kHeader + b * rows16::kNibbleBlockBytes + half * 4, x, sum);
      typename V::I dot[R];
      for (int r = 0; r < R; ++r) dot[r] = V::end_nibbles(sum[r], kMin ? 0 : x.meta(r).offset[0]);
      add_scaled<V, R, kMin>(w + (b * rows16::kTileRows + half) * 2, dot, x, total_);
    }
  }
};

}  // namespace donar::ops::cpu
