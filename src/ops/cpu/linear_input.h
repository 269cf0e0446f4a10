// The input of linear rounded and regrouped as the micro-kernels read it.
#pragma once

#include <bit>
#include <cstring>

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

// One block of 32 values to int8: symmetric, round to nearest even.
template <class V>
void round_block(const float* x, int n, int offset, bool halves, int8_t* q, Int8BlockMeta& meta) {
  using F = typename V::F;
  constexpr int kVectors = 32 / V::kLanes;
  F v[kVectors];
  F largest = V::zero();
  for (int i = 0; i < kVectors; ++i) {
    const int left = n - i * V::kLanes;
    v[i] = left >= V::kLanes ? V::load(x + i * V::kLanes)
                             : V::load_n(x + i * V::kLanes, left > 0 ? left : 0);
    largest = V::max(largest, V::abs(v[i]));
  }
  const float extreme = V::reduce_max(largest);
  const F inverse = V::set1(extreme > 0.0f ? 127.0f / extreme : 0.0f);
  for (int i = 0; i < kVectors; ++i) v[i] = V::mul(v[i], inverse);
  int32_t sums[2];
  V::store_block_i8(q, v, sums);
  meta.scale = extreme / 127.0f;
  meta.scaled_sum = meta.scale * static_cast<float>(sums[0] + sums[1]);
  meta.offset[0] = -offset * (halves ? sums[0] : sums[0] + sums[1]);
  meta.offset[1] = halves ? -offset * sums[1] : meta.offset[0] + std::bit_cast<int32_t>(kExact);
}

template <class V>
void round_int8(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                int offset, bool halves, std::byte* out) {
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    for (int64_t b = 0; b < padded; b += 32) {
      const int n = static_cast<int>(k - b < 32 ? (k > b ? k - b : 0) : 32);
      for (int r = 0; r < group; ++r) {
        Int8BlockMeta meta;
        round_block<V>(x + (row + r) * x_stride + b, n, offset, halves,
                       reinterpret_cast<int8_t*>(out) + r * 32, meta);
        std::memcpy(out + group * 32 + r * int{sizeof(meta)}, &meta, sizeof(meta));
      }
      out += group * kInt8BlockBytes;
    }
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
