// Linear over BF16 weights with AMX, for any number of rows: 16 to a tile, the last tile as many as
// are left. A row of a tile is added the same way whatever the rows beside it.
#pragma once

#include <algorithm>

#include "ops/cpu/amx_tiles.h"
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu::amx {

inline constexpr int kBf16Depth = 32;                          // values of k of a product
inline constexpr int kBf16StepBytes = kBf16Depth * 2 * kRows;  // weights of a product
inline constexpr int kBf16RowBytes = 2;                        // of a value
static_assert(kBf16StepBytes == kRows * kRowBytes);

// Shapes: 0 to 3 sums, 4 and 5 weights, 6 and 7 rows.
constexpr Config bf16_shapes(int rows) {
  Config config;
  config.set(0, 3, rows, kRowBytes);
  config.set(4, 5, kRows, kRowBytes);
  config.set(6, 7, rows, kRowBytes);
  return config;
}

struct alignas(64) Bf16Sums {
  float of[kRows][kRows];
};

// Rows [row, row + count) from their sums.
inline void store_rows(const LinearTile& t, int64_t row, int64_t count, const Bf16Sums& sums) {
  using V = VecAvx512;
  for (int64_t r = 0; r < count; ++r) {
    __m512 total = V::load(sums.of[r]);
    if (t.bias != nullptr) total = V::add(total, V::load_n(t.bias, t.outputs));
    V::store_n(t.y + (row + r) * t.y_stride, total, t.outputs);
  }
}

// kGroups groups of `rows` rows from `row` on.
template <int kGroups>
void multiply_bf16(const LinearTile& t, int64_t row, int64_t rows) {
  const std::byte* w = t.weights;
  const std::byte* x = t.x + row * t.x_row_bytes;
  const int64_t group_bytes = rows * t.x_row_bytes;
  zero<0>();
  if constexpr (kGroups > 1) zero<1>();
  if constexpr (kGroups > 2) zero<2>();
  if constexpr (kGroups > 3) zero<3>();
  for (int64_t k = 0; k < t.k; k += kBf16Depth, w += kBf16StepBytes, x += rows * kRowBytes) {
    if constexpr (kGroups == 1) {
      for (int i = 0; i < kBf16StepBytes; i += 64) __builtin_prefetch(w + kPrefetchBytes + i, 0, 2);
    }
    load<4>(w, kRowBytes);
    load<6>(x, kRowBytes);
    dot_bf16<0, 6, 4>();
    if constexpr (kGroups > 1) {
      load<7>(x + group_bytes, kRowBytes);
      dot_bf16<1, 7, 4>();
    }
    if constexpr (kGroups > 2) {
      load<6>(x + 2 * group_bytes, kRowBytes);
      dot_bf16<2, 6, 4>();
    }
    if constexpr (kGroups > 3) {
      load<7>(x + 3 * group_bytes, kRowBytes);
      dot_bf16<3, 7, 4>();
    }
  }
  Bf16Sums sums;
  store<0>(&sums);
  store_rows(t, row, rows, sums);
  if constexpr (kGroups > 1) {
    store<1>(&sums);
    store_rows(t, row + rows, rows, sums);
  }
  if constexpr (kGroups > 2) {
    store<2>(&sums);
    store_rows(t, row + 2 * rows, rows, sums);
  }
  if constexpr (kGroups > 3) {
    store<3>(&sums);
    store_rows(t, row + 3 * rows, rows, sums);
  }
}

inline void linear_bf16(const LinearTile& t) {
  int64_t row = 0;
  if (t.rows >= kRows) {
    const Shapes shapes(bf16_shapes(kRows));
    for (; t.rows - row >= 4 * kRows; row += 4 * kRows) multiply_bf16<4>(t, row, kRows);
    for (; t.rows - row >= 2 * kRows; row += 2 * kRows) multiply_bf16<2>(t, row, kRows);
    for (; t.rows - row >= kRows; row += kRows) multiply_bf16<1>(t, row, kRows);
  }
  if (row < t.rows) {
    const Shapes shapes(bf16_shapes(static_cast<int>(t.rows - row)));
    multiply_bf16<1>(t, row, t.rows - row);
  }
}

// Rows in groups of 16, the last one of what is left; per 32 k [rows][32] bf16.
inline void group_bf16(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                       std::byte* out) {
  using V = VecAvx512;
  for (int64_t row = 0; row < rows; row += kRows) {
    const int64_t group = std::min<int64_t>(rows - row, kRows);
    std::byte* to = out + row * padded * kBf16RowBytes;
    for (int64_t r = 0; r < group; ++r) {
      const float* from = x + (row + r) * x_stride;
      for (int64_t i = 0; i < padded; i += V::kLanes) {
        const auto left = static_cast<int>(std::clamp<int64_t>(k - i, 0, V::kLanes));
        std::byte* at =
            to + (i / kBf16Depth * group + r) * kRowBytes + i % kBf16Depth * kBf16RowBytes;
        V::store_bf16_n(at, V::load_n(from + i, left), V::kLanes);
      }
    }
  }
}

}  // namespace donar::ops::cpu::amx
