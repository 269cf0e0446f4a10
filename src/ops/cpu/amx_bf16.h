// Linear over BF16 weights with AMX, for any number of rows: 16 to a tile, the last tile as many as
// are left. A row of a tile is added the same way whatever the rows beside it.
#pragma once

#include <algorithm>
#include <cstring>

#include "ops/cpu/amx_block.h"
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

// Sums of up to `rows` rows from `row` on, as outputs.
inline void store_sums(const LinearTile& t, int64_t row, int64_t rows, const Bf16Sums& sums) {
  using V = VecAvx512;
  for (int64_t r = 0; r < rows; ++r) {
    __m512 total = V::load(sums.of[r]);
    if (t.bias != nullptr) total = V::add(total, V::load_n(t.bias, t.outputs));
    V::store_n(t.y + (row + r) * t.y_stride, total, t.outputs);
  }
}

// One or two tiles times one group of `rows` rows, all of K.
template <int kTiles>
void linear_bf16_group(const LinearTile* const (&tiles)[kTiles], int64_t row, int64_t rows) {
  const LinearTile& t = *tiles[0];
  const std::byte* first = t.weights;
  const std::byte* second = tiles[kTiles - 1]->weights;
  const std::byte* x = t.x + row * t.x_row_bytes;
  zero<0>();
  if constexpr (kTiles > 1) zero<1>();
  for (int64_t k = 0; k < t.k; k += kBf16Depth, x += rows * kRowBytes) {
    load<6>(x, kRowBytes);
    prefetch<kTiles, kBf16StepBytes>(first);
    load<4>(first, kRowBytes);
    dot_bf16<0, 6, 4>();
    first += kBf16StepBytes;
    if constexpr (kTiles > 1) {
      prefetch<kTiles, kBf16StepBytes>(second);
      load<5>(second, kRowBytes);
      dot_bf16<1, 6, 5>();
      second += kBf16StepBytes;
    }
  }
  Bf16Sums sums;
  store<0>(&sums);
  store_sums(t, row, rows, sums);
  if constexpr (kTiles > 1) {
    store<1>(&sums);
    store_sums(*tiles[1], row, rows, sums);
  }
}

// Tiles times groups of 16 rows, a stretch of K, on top of their sums.
template <int kTiles, int kGroups>
[[gnu::noinline]] void add_bf16(const std::byte* w, int64_t tile_bytes, const std::byte* x,
                                int64_t group_bytes, int64_t depth, Bf16Sums* first,
                                Bf16Sums* second, Ahead& ahead) {
  load<0>(first, kRowBytes);
  if constexpr (kGroups > 1) load<1>(first + 1, kRowBytes);
  if constexpr (kTiles > 1) load<2>(second, kRowBytes);
  if constexpr (kTiles > 1 && kGroups > 1) load<3>(second + 1, kRowBytes);
  for (int64_t k = 0; k < depth; k += kBf16Depth, w += kBf16StepBytes, x += kBf16StepBytes) {
    ahead.ask();
    load<4>(w, kRowBytes);
    load<6>(x, kRowBytes);
    dot_bf16<0, 6, 4>();
    if constexpr (kTiles > 1) {
      load<5>(w + tile_bytes, kRowBytes);
      dot_bf16<2, 6, 5>();
    }
    if constexpr (kGroups > 1) {
      load<7>(x + group_bytes, kRowBytes);
      dot_bf16<1, 7, 4>();
      if constexpr (kTiles > 1) dot_bf16<3, 7, 5>();
    }
  }
  store<0>(first);
  if constexpr (kGroups > 1) store<1>(first + 1);
  if constexpr (kTiles > 1) store<2>(second);
  if constexpr (kTiles > 1 && kGroups > 1) store<3>(second + 1);
}

// All rows of t, a multiple of 16. A stretch of K of two tiles stays in L1 while the rows pass.
inline void multiply_bf16(const LinearTile& t, int64_t tiles, Bf16Sums* sums) {
  constexpr int64_t kStretch = 256;
  const Shapes shapes(bf16_shapes(kRows));
  const int64_t tile_bytes = rows16::tile_bytes(quant::Format::kBF16, t.k);
  const int64_t groups = t.rows / kRows;
  const int64_t group_bytes = kRows * t.x_row_bytes;
  std::memset(sums, 0, static_cast<size_t>(tiles * groups) * sizeof(Bf16Sums));
  for (int64_t k = 0; k < t.k; k += kStretch) {
    const int64_t depth = std::min(t.k - k, kStretch);
    const bool last = k + depth == t.k;
    for (int64_t i = 0; i < tiles; i += 2) {
      const bool pair = i + 1 < tiles;
      const std::byte* w = t.weights + i * tile_bytes + k * kRowBytes / 2;
      // The same stretch of the next two tiles, or the first ones' next stretch.
      const int64_t steps = (groups + 1) / 2 * (depth / kBf16Depth);
      const std::byte* next =
          i + 2 < tiles ? w + 2 * tile_bytes
                        : t.weights + (last ? tiles * tile_bytes : (k + depth) * kRowBytes / 2);
      Ahead ahead[2] = {{next, depth * kRowBytes / 2, (steps + 1) / 2},
                        {next + tile_bytes, depth * kRowBytes / 2, (steps + 1) / 2}};
      for (int64_t g = 0; g < groups; g += 2) {
        const std::byte* x = t.x + g * group_bytes + k * kRowBytes / 2;
        Bf16Sums* first = sums + i * groups + g;
        Bf16Sums* second = first + groups;
        const bool both = g + 1 < groups;
        Ahead& asks = ahead[2 * g < groups ? 0 : 1];
        if (pair && both) {
          add_bf16<2, 2>(w, tile_bytes, x, group_bytes, depth, first, second, asks);
        } else if (pair) {
          add_bf16<2, 1>(w, tile_bytes, x, group_bytes, depth, first, second, asks);
        } else if (both) {
          add_bf16<1, 2>(w, tile_bytes, x, group_bytes, depth, first, second, asks);
        } else {
          add_bf16<1, 1>(w, tile_bytes, x, group_bytes, depth, first, second, asks);
        }
        if (!last) continue;
        for (int64_t tile = i; tile < std::min(i + 2, tiles); ++tile) {
          for (int64_t group = g; group < std::min(g + 2, groups); ++group) {
            store_sums(tile_of(t, tile, tile_bytes), group * kRows, kRows,
                       sums[tile * groups + group]);
          }
        }
      }
    }
  }
}

inline void linear_bf16_tiles(const LinearTile& t, int64_t tiles) {
  Bf16Sums sums[kLinearManyTiles * kPassRows / kRows];
  int64_t row = 0;
  while (t.rows - row >= kRows) {
    const int64_t rows = std::min(kPassRows, (t.rows - row) / kRows * kRows);
    multiply_bf16(rows_of(t, row, rows), tiles, sums);
    row += rows;
  }
  if (row == t.rows) return;
  const Shapes shapes(bf16_shapes(static_cast<int>(t.rows - row)));
  const int64_t tile_bytes = rows16::tile_bytes(quant::Format::kBF16, t.k);
  for (int64_t i = 0; i < tiles; ++i) {
    const LinearTile tile = tile_of(t, i, tile_bytes);
    linear_bf16_group<1>({&tile}, row, t.rows - row);
  }
}

// Fewer than 16 rows.
inline void linear_bf16(const LinearTile& t) {
  const Shapes shapes(bf16_shapes(static_cast<int>(t.rows)));
  linear_bf16_group<1>({&t}, 0, t.rows);
}

inline void linear_bf16_two(const LinearTile& first, const LinearTile& second) {
  const Shapes shapes(bf16_shapes(static_cast<int>(first.rows)));
  linear_bf16_group<2>({&first, &second}, 0, first.rows);
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
