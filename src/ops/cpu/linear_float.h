// Micro-kernel of F32, F16 and BF16 weights.
#pragma once

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

// Float formats carry two sums, over even and odd values of k, to hide the latency of the
// additions.
template <class V, int R, quant::Format kFormat>
class FloatSums {
  static constexpr int kElement = kFormat == quant::Format::kF32 ? 4 : 2;
  static constexpr int kPair = 2 * rows16::kTileRows * kElement;  // two values of k

 public:
  static constexpr int kOutputs = V::kLanes;
  static constexpr int kValues = 2;
  static constexpr int kBytes = kPair;
  static constexpr int kInputBytes = 2 * R * int{sizeof(float)};

  FloatSums() {
    for (int r = 0; r < R; ++r) even_[r] = odd_[r] = V::zero();
  }
  template <int kTiles>
  [[gnu::always_inline]] void add(const std::byte* weights, int half, const std::byte* input) {
    using F = typename V::F;
    // Pairs of bf16 lie in one 32-bit word per row; the other formats have a vector per value.
    const std::byte* w = weights + half * (kFormat == quant::Format::kBF16 ? 4 : kElement);
    const auto* x = reinterpret_cast<const float*>(input);
    if (half == 0) prefetch<kTiles, kPair>(w);
    F w0, w1;
    if constexpr (kFormat == quant::Format::kF32) {
      w0 = V::load(reinterpret_cast<const float*>(w));
      w1 = V::load(reinterpret_cast<const float*>(w) + rows16::kTileRows);
    } else if constexpr (kFormat == quant::Format::kF16) {
      w0 = V::load_f16(w);
      w1 = V::load_f16(w + kPair / 2);
    } else {
      const typename V::B pairs = V::load_bytes(w);
      w0 = V::first_bf16(pairs);
      w1 = V::second_bf16(pairs);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) even_[r] = V::fma(w0, V::set1(x[r]), even_[r]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) odd_[r] = V::fma(w1, V::set1(x[R + r]), odd_[r]);
  }
  void store(const LinearTile& t, int half, int64_t row) {
    for (int r = 0; r < R; ++r) even_[r] = V::add(even_[r], odd_[r]);
    store_tile<V, R>(t, half, even_, row);
  }

 private:
  typename V::F even_[R], odd_[R];
};

}  // namespace donar::ops::cpu
