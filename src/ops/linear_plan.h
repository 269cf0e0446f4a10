// How a packed matrix is cut for steps of up to 64 rows: rows of a tile and splits of K. Chosen
// once, when the matrix is packed, from its shape and the device alone, so that a row's sums do not
// depend on the number of rows.
#pragma once

#include <cstdint>

#include "ops/cuda/common/tiled.h"

namespace donar::ops {

inline constexpr int kMaxTileRows = 256;
inline constexpr int kTileRowsStep = 32;
inline constexpr int kMaxSplits = 8;
inline constexpr int64_t kDecodeRows = 64;  // rows that one pass of the decode kernel takes

struct LinearPlan {
  int tile_rows = kTileRowsStep;  // a multiple of 32, at most 256
  int splits = 1;                 // 1, 2, 4 or 8, at most the number of k tiles
};

// The plan with the least estimated time. one_part: the sums must be whole where they are made
// (gate and up, whose product is taken there; a head, whose logits are read as they are); matrices
// of 65,536 rows and more have one part anyway. Interleaved matrices: n counts both halves.
LinearPlan linear_plan(int64_t n, int64_t k, int num_sms, bool one_part = false);

// The estimate behind it, in bytes that one multiprocessor reads in the meantime.
double linear_plan_cost(int64_t n, int64_t k, int num_sms, LinearPlan plan);

// First k tile of a split; that of split `splits` is the end. Lengths differ by one at most.
DONAR_HOST_DEVICE constexpr int split_begin(int k_tiles, int splits, int split) {
  return k_tiles * split / splits;
}

}  // namespace donar::ops
