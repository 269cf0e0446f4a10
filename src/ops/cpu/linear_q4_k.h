// Micro-kernels of Q4_K and Q5_K weights.
#pragma once

#include "ops/cpu/linear_q5.h"

namespace donar::ops::cpu {

template <class V, int R, bool kFiveBits>
void linear_q4_k(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;
  constexpr int kBlockBytes = kFiveBits ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* super = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += 256, super += rows16::kKHeaderBytes + 8 * kBlockBytes) {
    prefetch<V, rows16::kKHeaderBytes>(super);
    const F d = V::load_f16(super + half * 2);
    const F minus_dmin = V::sub(V::zero(), V::load_f16(super + 32 + half * 2));
    // Four scales or minimums to a lane's word: blocks 0 to 3, then 4 to 7.
    const std::byte* words = super + 64 + half * 4;
    const B first = V::load_bytes(words);
    const B second = V::load_bytes(words + rows16::kVectorBytes);
    const B third = V::load_bytes(words + 2 * rows16::kVectorBytes);
    B scales = V::template with_high_bits<2>(V::low_nibbles(first), first);
    B mins = V::template with_high_bits<2>(V::low_nibbles(second), second);
    const std::byte* bytes = super + rows16::kKHeaderBytes + half * 4;
    for (int b = 0; b < 8; ++b, bytes += kBlockBytes, x.at += R * kInt8BlockBytes) {
      prefetch<V, kBlockBytes>(bytes);
      if (b == 4) {
        scales = V::template with_high_bits<3>(V::low_nibbles(third), first);
        mins = V::template with_high_bits<3>(V::high_nibbles(third), second);
      }
      I dot[R];
      if constexpr (kFiveBits) {
        typename V::N5 sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::begin_fives(0);
        dot_fives<V, R>(bytes, x, sum);
        for (int r = 0; r < R; ++r) dot[r] = V::end_fives(sum[r], 0);
      } else {
        typename V::N sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::begin_nibbles(0);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
          const B low = V::low_nibbles(both);
          const B high = V::high_nibbles(both);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], low, x.q(r) + 8 * j);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], high, x.q(r) + 8 * j + 4);
        }
        for (int r = 0; r < R; ++r) dot[r] = V::end_nibbles(sum[r], 0);
      }
      const F scale = V::mul(d, V::first_byte(scales));
      const F min = V::mul(minus_dmin, V::first_byte(mins));
      scales = V::next_bytes(scales);
      mins = V::next_bytes(mins);
      for (int r = 0; r < R; ++r)
        total[r] = V::fma(V::mul(V::to_f32(dot[r]), scale), V::set1(x.meta(r).scale), total[r]);
      for (int r = 0; r < R; ++r) total[r] = V::fma(min, V::set1(x.meta(r).scaled_sum), total[r]);
    }
  }
  store_tile<V, R>(t, half, total, row);
}

}  // namespace donar::ops::cpu
