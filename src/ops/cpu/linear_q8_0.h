// Micro-kernel of Q8_0 weights.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

template <class V, int R>
class Q8_0Sums : public Int8Sums<V, R> {
  using Int8Sums<V, R>::total_;

 public:
  static constexpr int kValues = rows16::kPair;
  static constexpr int kBytes = rows16::kQ8_0PairBytes;
  static constexpr int kInputBytes = 2 * R * kInt8BlockBytes;

  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* w, int half, const std::byte* input) {
    if (half == 0) prefetch<kTiles, kBytes>(w);
    Int8Block<V, R> x{input};
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      const std::byte* bytes = w + rows16::kScaleBytes + b * rows16::kByteBlockBytes + half * 4;
      typename V::I sum[R];
      for (int r = 0; r < R; ++r) {
        sum[r] = V::iset1(V::kUnsignedDot ? x.meta(r).offset[0] : 0);
      }
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const typename V::B q = V::load_bytes(bytes + j * rows16::kVectorBytes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = V::dot4_u8(sum[r], q, x.q(r) + 4 * j);
      }
      const typename V::F d = V::load_f16(w + (b * rows16::kTileRows + half) * 2);
      for (int r = 0; r < R; ++r) {
        total_[r] = V::fma(V::mul(V::to_f32(sum[r]), d), V::set1(x.meta(r).scale), total_[r]);
      }
    }
  }
};

}  // namespace donar::ops::cpu
