// Micro-kernel of Q6_K weights.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

template <class V, int R>
class Q6KSums : public Int8Sums<V, R> {
  using Int8Sums<V, R>::total_;

 public:
  static constexpr int kValues = 256;
  static constexpr int kBytes = rows16::kQ6KSuperBytes;
  static constexpr int kInputBytes = 8 * R * kInt8BlockBytes;

  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* super, int half, const std::byte* input) {
    using F = typename V::F;
    using I = typename V::I;
    using B = typename V::B;
    const F d = V::load_f16(super + half * 2);
    const std::byte* scales = super + 64 + half;
    const std::byte* bytes = super + rows16::kQ6KHeaderBytes + half * 4;
    if (half == 0) prefetch<kTiles, rows16::kQ6KHeaderBytes>(super);
    Int8Block<V, R> x{input};
    for (int b = 0; b < 8; ++b, bytes += rows16::kQ6KBlockBytes, x.at += R * kInt8BlockBytes) {
      if (half == 0) prefetch<kTiles, rows16::kQ6KBlockBytes>(bytes);
      F scaled[R];
#pragma GCC unroll 2
      for (int s = 0; s < 2; ++s) {  // 16 values under one scale: 4 groups, one vector of high bits
        I sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::iset1(x.meta(r).offset[s]);
        const B high = V::load_bytes(bytes + (4 + s) * rows16::kVectorBytes);
        const B q01 = V::load_bytes(bytes + (2 * s) * rows16::kVectorBytes);
        const B q23 = V::load_bytes(bytes + (2 * s + 1) * rows16::kVectorBytes);
        const B w0 = V::template with_high_bits<0>(V::low_nibbles(q01), high);
        const B w1 = V::template with_high_bits<1>(V::high_nibbles(q01), high);
        const B w2 = V::template with_high_bits<2>(V::low_nibbles(q23), high);
        const B w3 = V::template with_high_bits<3>(V::high_nibbles(q23), high);
        for (int r = 0; r < R; ++r) {
          const int8_t* q = x.q(r) + 16 * s;
          sum[r] =
              V::dot4(V::dot4(V::dot4(V::dot4(sum[r], w0, q), w1, q + 4), w2, q + 8), w3, q + 12);
        }
        const F scale = V::mul(d, V::load_i8(scales + (2 * b + s) * rows16::kTileRows));
        for (int r = 0; r < R; ++r) {
          scaled[r] = s == 0 ? V::mul(V::to_f32(sum[r]), scale)
                             : V::fma(V::to_f32(sum[r]), scale, scaled[r]);
        }
      }
      for (int r = 0; r < R; ++r)
        total_[r] = V::fma(scaled[r], V::set1(x.meta(r).scale), total_[r]);
    }
  }
};

}  // namespace donar::ops::cpu
