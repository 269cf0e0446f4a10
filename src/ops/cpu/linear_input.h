// The input of linear rounded and regrouped as the micro-kernels read it.
#pragma once

#include <bit>
#include <limits>

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

// The vectors of a block, of which n values exist.
template <class V>
void load_block(const float* x, int64_t n, typename V::F (&v)[32 / V::kLanes]) {
  for (int i = 0; i < 32 / V::kLanes; ++i) {
    const int64_t left = n - i * V::kLanes;
    v[i] = left >= V::kLanes ? V::load(x + i * V::kLanes)
                             : V::load_n(x + i * V::kLanes, left > 0 ? static_cast<int>(left) : 0);
  }
}

template <class V>
typename V::F largest_of(const typename V::F (&v)[32 / V::kLanes]) {
  typename V::F largest = V::abs(v[0]);
  for (int i = 1; i < 32 / V::kLanes; ++i) largest = V::max(largest, V::abs(v[i]));
  return largest;
}

// A block to int8 by the inverse of its scale: symmetric, round to nearest even.
template <class V>
void store_block(typename V::F (&v)[32 / V::kLanes], float inverse, float scale, int offset,
                 bool halves, int8_t* q, Int8BlockMeta& meta) {
  for (int i = 0; i < 32 / V::kLanes; ++i) v[i] = V::mul(v[i], V::set1(inverse));
  int32_t sums[2];
  V::store_block_i8(q, v, sums);
  meta.scale = scale;
  meta.scaled_sum = scale * static_cast<float>(sums[0] + sums[1]);
  meta.offset[0] = -offset * (halves ? sums[0] : sums[0] + sums[1]);
  meta.offset[1] = halves ? -offset * sums[1] : meta.offset[0] + std::bit_cast<int32_t>(kExact);
}

// Rounds up to kLanes blocks, their scales worked out side by side: load(i, v) gives the values of
// block i, store(i, v, inverse, scale) takes them again with the scale and its inverse.
template <class V, class Load, class Store>
void round_blocks(int count, Load load, Store store) {
  using F = typename V::F;
  F v[32 / V::kLanes];
  F largest[V::kLanes];
  for (int i = 0; i < V::kLanes; ++i) {
    largest[i] = V::zero();
    if (i >= count) continue;
    load(i, v);
    largest[i] = largest_of<V>(v);
  }
  V::transpose(largest);
  for (int i = 1; i < V::kLanes; ++i) largest[0] = V::max(largest[0], largest[i]);
  float inverses[V::kLanes], scales[V::kLanes];
  V::store(inverses, V::zero_below(largest[0], V::set1(std::numeric_limits<float>::denorm_min()),
                                   V::div(V::set1(127.0f), largest[0])));
  V::store(scales, V::div(largest[0], V::set1(127.0f)));
  for (int i = 0; i < count; ++i) {
    load(i, v);
    store(i, v, inverses[i], scales[i]);
  }
}

template <class V>
void round_int8(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                int offset, bool halves, std::byte* out) {
  constexpr int64_t kValues = int64_t{V::kLanes} * 32;
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    const int64_t step = group * kInt8BlockBytes;
    for (int64_t at = 0; at < padded; at += kValues) {
      const auto count = static_cast<int>((padded - at < kValues ? padded - at : kValues) / 32);
      for (int r = 0; r < group; ++r) {
        const float* from = x + (row + r) * x_stride + at;
        std::byte* q = out + at / 32 * step + r * 32;
        const int64_t meta_at = (group - r) * 32 + r * int{sizeof(Int8BlockMeta)};
        round_blocks<V>(
            count, [&](int b, auto& v) { load_block<V>(from + b * 32, k - at - b * 32, v); },
            [&](int b, auto& v, float inverse, float scale) {
              store_block<V>(v, inverse, scale, offset, halves,
                             reinterpret_cast<int8_t*>(q + b * step),
                             *reinterpret_cast<Int8BlockMeta*>(q + b * step + meta_at));
            });
      }
    }
    out += padded / 32 * step;
    row += group;
  }
}

template <class V>
void group_floats(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                  bool to_bf16, std::byte* out) {
  auto* to = reinterpret_cast<float*>(out);
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    for (int r = 0; r < group; ++r) {
      const float* from = x + (row + r) * x_stride;
      for (int64_t i = 0; i < padded; i += V::kLanes) {
        const int left = static_cast<int>(k - i < V::kLanes ? (k > i ? k - i : 0) : V::kLanes);
        typename V::F v = V::load_n(from + i, left);
        if (to_bf16) v = V::round_bf16(v);
        float values[V::kLanes];
        V::store(values, v);
        const int count = static_cast<int>(padded - i < V::kLanes ? padded - i : V::kLanes);
        for (int j = 0; j < count; ++j) to[(i + j) * group + r] = values[j];
      }
    }
    to += group * padded;
    row += group;
  }
}

}  // namespace donar::ops::cpu
