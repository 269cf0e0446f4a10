// The k-tiled layout of 16-bit matrices on CUDA: [ceil(k / 64)][rows][64], and within the 128 bytes
// of a row the 16-byte slot s lies at slot s ^ (row & 7). That is Hopper's 128-byte swizzle (8 rows
// are one 1,024-byte atom), so the same bytes are a wgmma operand, are read by ldmatrix without
// bank conflicts, and a range of rows of one k tile is one bulk copy. Activations are one such
// matrix; packed weights are one per run of tile_rows rows.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define DONAR_HOST_DEVICE __host__ __device__
#else
#define DONAR_HOST_DEVICE
#endif

namespace donar::ops {

inline constexpr int kTileK = 64;  // values of a row in one k tile: 128 bytes

DONAR_HOST_DEVICE constexpr int64_t num_k_tiles(int64_t k) { return (k + kTileK - 1) / kTileK; }

// Element offset of (row, k) in a k-tiled matrix of `rows` rows.
DONAR_HOST_DEVICE constexpr int64_t tiled_offset(int64_t row, int64_t k, int64_t rows) {
  const int64_t slot = (k % kTileK / 8) ^ (row & 7);
  return (k / kTileK * rows + row) * kTileK + slot * 8 + k % 8;
}

DONAR_HOST_DEVICE constexpr int64_t tiled_elements(int64_t rows, int64_t k) {
  return num_k_tiles(k) * rows * kTileK;
}

// Element offset of (row, k) in packed weights of k columns, tile_rows rows a tile.
DONAR_HOST_DEVICE constexpr int64_t tiled_weight_offset(int64_t row, int64_t k, int64_t columns,
                                                        int64_t tile_rows) {
  return row / tile_rows * tiled_elements(tile_rows, columns) +
         tiled_offset(row % tile_rows, k, tile_rows);
}

DONAR_HOST_DEVICE constexpr int64_t tiled_weight_elements(int64_t rows, int64_t columns,
                                                          int64_t tile_rows) {
  return (rows + tile_rows - 1) / tile_rows * tiled_elements(tile_rows, columns);
}

// Packed row of row r of gate (part 0) or up (part 1): they alternate in runs of 8, so that a
// thread of an mma holds both sides of a product.
DONAR_HOST_DEVICE constexpr int64_t interleaved_row(int64_t row, int part) {
  return row / 8 * 16 + part * 8 + row % 8;
}

}  // namespace donar::ops
