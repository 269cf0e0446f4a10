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
void linear_rows(const LinearTile& t, int half, int64_t row) {
  using quant::Format;
  if constexpr (input_kind(kFormat) != InputKind::kInt8) linear_float<V, R, kFormat>(t, half, row);
  if constexpr (kFormat == Format::kQ4_0) linear_q4<V, R, false>(t, half, row);
  if constexpr (kFormat == Format::kQ4_1) linear_q4<V, R, true>(t, half, row);
  if constexpr (kFormat == Format::kQ5_0) linear_q5<V, R, false>(t, half, row);
  if constexpr (kFormat == Format::kQ5_1) linear_q5<V, R, true>(t, half, row);
  if constexpr (kFormat == Format::kQ4_K) linear_q4_k<V, R, false>(t, half, row);
  if constexpr (kFormat == Format::kQ5_K) linear_q4_k<V, R, true>(t, half, row);
  if constexpr (kFormat == Format::kQ8_0) linear_q8_0<V, R>(t, half, row);
  if constexpr (kFormat == Format::kQ6_K) linear_q6_k<V, R>(t, half, row);
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
