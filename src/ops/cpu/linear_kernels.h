// The micro-kernels of linear over a Vec: one tile of 16 outputs times 1 to 8 input rows, all of K.
// Every output adds over K in one order whatever the number of rows: lanes are outputs, and the row
// count only decides how many sums are carried side by side.
#pragma once

#include "ops/cpu/linear_float.h"
#include "ops/cpu/linear_input.h"
#include "ops/cpu/linear_q4.h"
#include "ops/cpu/linear_q4_k.h"
#include "ops/cpu/linear_q5.h"
#include "ops/cpu/linear_q6_k.h"
#include "ops/cpu/linear_q8_0.h"
#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

template <class V, quant::Format kFormat, int R>
auto sums_of() {
  using quant::Format;
  if constexpr (input_kind(kFormat) != InputKind::kInt8) {
    return FloatSums<V, R, kFormat>();
  } else if constexpr (kFormat == Format::kQ4_0 || kFormat == Format::kQ4_1) {
    return Q4Sums<V, R, has_min(kFormat)>();
  } else if constexpr (kFormat == Format::kQ5_0 || kFormat == Format::kQ5_1) {
    return Q5Sums<V, R, has_min(kFormat)>();
  } else if constexpr (kFormat == Format::kQ4_K || kFormat == Format::kQ5_K) {
    return Q4KSums<V, R, has_fifth_bits(kFormat)>();
  } else if constexpr (kFormat == Format::kQ8_0) {
    return Q8_0Sums<V, R>();
  } else {
    static_assert(kFormat == Format::kQ6_K);
    return Q6KSums<V, R>();
  }
}
template <class V, quant::Format kFormat, int R>
using SumsOf = decltype(sums_of<V, kFormat, R>());

// Up to two tiles times a group of R rows. Where the registers hold the sums of few rows only, four
// rows go through one tile at a time, and float ones through a vector of its outputs.
template <class V, quant::Format kFormat, int R, int kTiles>
void linear_rows(const LinearTile* const (&tiles)[kTiles], int64_t row) {
  using Sums = SumsOf<V, kFormat, R>;
  constexpr int kVectors = rows16::kTileRows / V::kLanes;
  constexpr bool kFew = V::kMaxRows >= 8 || R <= 2;
  if constexpr (kTiles > 1 && !kFew) {
    for (const LinearTile* tile : tiles) linear_rows<V, kFormat, R, 1>({tile}, row);
  } else if constexpr (kFew || input_kind(kFormat) == InputKind::kInt8) {
    add_units<Sums, kTiles, kVectors>(tiles, 0, row);
  } else {
    for (int half = 0; half < rows16::kTileRows; half += V::kLanes)
      add_units<Sums, kTiles, 1>(tiles, half, row);
  }
}

template <class V, quant::Format kFormat, int kTiles>
void linear_tiles(const LinearTile* const (&tiles)[kTiles]) {
  for (int64_t row = 0; row < tiles[0]->rows;) {
    const int rows = group_rows<V>(tiles[0]->rows - row);
    switch (rows) {
      case 8:
        if constexpr (V::kMaxRows >= 8) linear_rows<V, kFormat, 8>(tiles, row);
        break;
      case 4:
        linear_rows<V, kFormat, 4>(tiles, row);
        break;
      case 2:
        linear_rows<V, kFormat, 2>(tiles, row);
        break;
      default:
        linear_rows<V, kFormat, 1>(tiles, row);
        break;
    }
    row += rows;
  }
}

template <class V, quant::Format kFormat>
void linear_tile(const LinearTile& t) {
  linear_tiles<V, kFormat, 1>({&t});
}
template <class V, quant::Format kFormat>
void linear_two(const LinearTile& first, const LinearTile& second) {
  linear_tiles<V, kFormat, 2>({&first, &second});
}

}  // namespace donar::ops::cpu
