// How a product of more than 64 rows is cut into units of work: the tile of tokens, the splits of
// K, and the order in which the units run. Host arithmetic; the kernels use the same functions.
#pragma once

#include <cstdint>

#include "ops/cuda/common/tiled.h"

namespace donar::ops::cuda {

inline constexpr int kPrefillWeightTile = 128;  // weight rows of a CTA
inline constexpr int kPrefillMaxSplits = 8;
// splits * rows is at most this where there is more than one split: what bounds the room for y.
inline constexpr int64_t kPrefillMaxPartRows = 4096;

struct PrefillPlan {
  int token_tile = 256;  // 128 or 256 tokens of a CTA (kernels without wgmma: always 128)
  int splits = 1;        // runs of K that different CTAs add up: f32 parts if more than one
};

// The plan with the least estimated time for y[rows, n] = x[rows, k] W^T. A fused activation needs
// whole sums: one_part. Depends on these numbers only, so that it can be asked before and at the
// launch.
PrefillPlan prefill_plan(int64_t n, int64_t k, int64_t rows, int num_sms, bool one_part = false);

// The units of one launch. A unit is done by a group of `cluster` CTAs, one under the other.
struct PrefillGrid {
  int row_tiles = 0;    // ceil(n / (128 * cluster))
  int token_tiles = 0;  // ceil(rows / token_tile)
  int splits = 1;
  int token_group = 1;  // token tiles that run side by side

  DONAR_HOST_DEVICE constexpr int units() const { return row_tiles * token_tiles * splits; }
};

struct PrefillUnit {
  int row_tile = 0;
  int token_tile = 0;
  int split = 0;
};

// Tokens that run side by side: with 132 CTAs of 128 x 256 a wave is about 2,048 tokens by 2,112
// weight rows, the square that reads the least through L2. Weights then come from memory once per
// 2,048 tokens.
inline constexpr int kPrefillGroupTokens = 2048;

constexpr PrefillGrid prefill_grid(int64_t n, int64_t rows, PrefillPlan plan, int cluster) {
  const int64_t high = int64_t{kPrefillWeightTile} * cluster;
  return {static_cast<int>((n + high - 1) / high),
          static_cast<int>((rows + plan.token_tile - 1) / plan.token_tile), plan.splits,
          kPrefillGroupTokens / plan.token_tile};
}

// Units in the order of the launch: within a split and a group of token tiles, all token tiles of
// one row tile, then the next row tile.
DONAR_HOST_DEVICE constexpr PrefillUnit prefill_unit(const PrefillGrid& grid, int index) {
  const int per_split = grid.row_tiles * grid.token_tiles;
  const int split = index / per_split;
  const int in_split = index % per_split;
  const int per_group = grid.row_tiles * grid.token_group;
  const int first = in_split / per_group * grid.token_group;
  const int in_group = in_split % per_group;
  const int left = grid.token_tiles - first;
  const int width = left < grid.token_group ? left : grid.token_group;
  return {in_group / width, first + in_group % width, split};
}

// K tiles [begin, end) of a split.
DONAR_HOST_DEVICE constexpr int prefill_split_begin(int k_tiles, int splits, int split) {
  return k_tiles * split / splits;
}

// A run of 32 weight rows is 4 KB inside its n tile; a weight tile is four of them.
inline constexpr int kGranuleRows = 32;
inline constexpr int kGranuleBytes = kGranuleRows * kTileK * 2;

// Byte offset of rows [row, row + 32) of k tile 0; the next k tile is tile_rows * 128 bytes on.
// Divisions are of 32 bits: those of 64 are calls, too many registers for a loading warp.
DONAR_HOST_DEVICE constexpr int64_t granule_offset(int row, int k_tiles, int tile_rows) {
  return (int64_t{row / tile_rows * tile_rows} * k_tiles + row % tile_rows) * (kTileK * 2);
}

}  // namespace donar::ops::cuda
