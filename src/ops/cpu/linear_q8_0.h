// Micro-kernel of Q8_0 weights.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

template <class V, int R>
void linear_q8_0(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* w = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += rows16::kPair, w += rows16::kQ8_0PairBytes) {
    prefetch<V, rows16::kQ8_0PairBytes>(w);
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      const std::byte* bytes = w + rows16::kScaleBytes + b * rows16::kByteBlockBytes + half * 4;
      I sum[R];
      for (int r = 0; r < R; ++r) {
        sum[r] = V::iset1(V::kUnsignedDot ? x.meta(r).offset[0] : 0);
      }
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const typename V::B q = V::load_bytes(bytes + j * rows16::kVectorBytes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = V::dot4_u8(sum[r], q, x.q(r) + 4 * j);
      }
      const F d = V::load_f16(w + (b * rows16::kTileRows + half) * 2);
      for (int r = 0; r < R; ++r) {
        total[r] = V::fma(V::mul(V::to_f32(sum[r]), d), V::set1(x.meta(r).scale), total[r]);
      }
    }
  }
  store_tile<V, R>(t, half, total, row);
}

}  // namespace donar::ops::cpu
