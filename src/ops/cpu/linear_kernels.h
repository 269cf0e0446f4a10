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

template <class V, quant::Format kFormat, int R>
void linear_rows(const LinearTile& t, int half, int64_t row) {
  add_units<SumsOf<V, kFormat, R>, 1>({&t}, half, row);
}

// Two tiles times one row.
template <class V, quant::Format kFormat>
void linear_two(const LinearTile& first, const LinearTile& second) {
  for (int half = 0; half < rows16::kTileRows; half += V::kLanes)
    add_units<SumsOf<V, kFormat, 1>, 2>({&first, &second}, half, /*row=*/0);
}

// One tile times all rows of a row block, group by group.
template <class V, quant::Format kFormat>
void linear_tile(const LinearTile& t) {
  for (int64_t row = 0; row < t.rows;) {
    const int rows = group_rows<V>(t.rows - row);
    for (int half = 0; half < rows16::kTileRows; half += V::kLanes) {
      switch (rows) {
        case 8:
          if constexpr (V::kMaxRows >= 8) linear_rows<V, kFormat, 8>(t, half, row);
          break;
        case 4:
          linear_rows<V, kFormat, 4>(t, half, row);
          break;
        case 2:
          linear_rows<V, kFormat, 2>(t, half, row);
          break;
        default:
          linear_rows<V, kFormat, 1>(t, half, row);
          break;
      }
    }
    row += rows;
  }
}

}  // namespace donar::ops::cpu
