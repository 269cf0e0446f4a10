// Micro-kernel of F32, F16 and BF16 weights.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

// Float formats carry two sums, over even and odd values of k, to hide the latency of the
// additions.
template <class V, int R, quant::Format kFormat>
void linear_float(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  constexpr int kBytes = kFormat == quant::Format::kF32 ? 4 : 2;
  constexpr int kStep = 2 * rows16::kTileRows * kBytes;  // two values of k
  F even[R], odd[R];
  for (int r = 0; r < R; ++r) even[r] = odd[r] = V::zero();
  // Pairs of bf16 lie in one 32-bit word per row; the other formats have a vector per value.
  const std::byte* w = t.weights + half * (kFormat == quant::Format::kBF16 ? 4 : kBytes);
  const auto* x = reinterpret_cast<const float*>(t.x + row * t.x_row_bytes);
#pragma GCC unroll 2
  for (int64_t k = 0; k < t.k; k += 2, w += kStep, x += 2 * R) {
    prefetch<V, kStep>(w);
    F w0, w1;
    if constexpr (kFormat == quant::Format::kF32) {
      w0 = V::load(reinterpret_cast<const float*>(w));
      w1 = V::load(reinterpret_cast<const float*>(w) + rows16::kTileRows);
    } else if constexpr (kFormat == quant::Format::kF16) {
      w0 = V::load_f16(w);
      w1 = V::load_f16(w + kStep / 2);
    } else {
      const typename V::B pairs = V::load_bytes(w);
      w0 = V::first_bf16(pairs);
      w1 = V::second_bf16(pairs);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) even[r] = V::fma(w0, V::set1(x[r]), even[r]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) odd[r] = V::fma(w1, V::set1(x[R + r]), odd[r]);
  }
  for (int r = 0; r < R; ++r) even[r] = V::add(even[r], odd[r]);
  store_tile<V, R>(t, half, even, row);
}

}  // namespace donar::ops::cpu
