// Micro-kernels of Q5_0 and Q5_1 weights, and the dot product of five-bit blocks.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

// Groups 2j and 2j + 1 of a five-bit block: nibbles with bits 2j and 2j + 1 of `fifth` above them.
template <class V, int R, int j>
[[gnu::always_inline]] inline void add_fives(const std::byte* bytes, typename V::B fifth,
                                             const Int8Block<V, R>& x, typename V::N5 (&sum)[R]) {
  const typename V::B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
  const typename V::B even = V::template with_fifth_bit<2 * j>(V::low_nibbles(both), fifth);
  const typename V::B odd = V::template with_fifth_bit<2 * j + 1>(V::high_nibbles(both), fifth);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sum[r] = V::template dot4_fives<2 * j>(sum[r], even, x.q(r) + 8 * j);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    sum[r] = V::template dot4_fives<2 * j + 1>(sum[r], odd, x.q(r) + 8 * j + 4);
}

template <class V, int R>
[[gnu::always_inline]] inline void dot_fives(const std::byte* bytes, const Int8Block<V, R>& x,
                                             typename V::N5 (&sum)[R]) {
  const typename V::B fifth = V::load_bytes(bytes + rows16::kNibbleBlockBytes);
  add_fives<V, R, 0>(bytes, fifth, x, sum);
  add_fives<V, R, 1>(bytes, fifth, x, sum);
  add_fives<V, R, 2>(bytes, fifth, x, sum);
  add_fives<V, R, 3>(bytes, fifth, x, sum);
}

template <class V, int R, bool kMin>
class Q5Sums : public Int8Sums<V, R> {
  using Int8Sums<V, R>::total_;

 public:
  static constexpr int kValues = rows16::kPair;
  static constexpr int kBytes = kMin ? rows16::kQ5_1PairBytes : rows16::kQ5_0PairBytes;
  static constexpr int kInputBytes = 2 * R * kInt8BlockBytes;

  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* w, int half, const std::byte* input) {
    constexpr int kHeader = kBytes - 2 * rows16::kFiveBitBlockBytes;
    if (half == 0) prefetch<kTiles, kBytes>(w);
    Int8Block<V, R> x{input};
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      typename V::N5 sum[R];
      for (int r = 0; r < R; ++r) sum[r] = V::begin_fives(kMin ? 0 : x.meta(r).offset[0]);
      dot_fives<V, R>(w + kHeader + b * rows16::kFiveBitBlockBytes + half * 4, x, sum);
      typename V::I dot[R];
      for (int r = 0; r < R; ++r) dot[r] = V::end_fives(sum[r], kMin ? 0 : x.meta(r).offset[0]);
      add_scaled<V, R, kMin>(w + (b * rows16::kTileRows + half) * 2, dot, x, total_);
    }
  }
};

}  // namespace donar::ops::cpu
