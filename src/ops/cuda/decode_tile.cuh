// Weight formats as the decode kernel sees them, and a warp's products of one k tile.
#pragma once

#include "ops/cuda/common/mma16.cuh"
#include "ops/cuda/common/tiled.h"

namespace donar::ops::cuda {

inline constexpr int kRowBytes = kTileK * 2;  // of x, and of 16-bit weights, in a k tile
inline constexpr int kMmaRows = 16;
inline constexpr int kMmaK = 16;

// A weight format is a type like this one: the bytes of 16 rows by 64 columns, which lie one after
// the other in a stage, and how a lane gets its A fragments from them. A format that unpacks loads
// in the constructor what it needs for all four.
template <class T>
struct PlainTile {
  using Value = T;
  static constexpr int kBytes = kMmaRows * kRowBytes;

  // ldmatrix wants lane l's address of row l % 16, k half l / 16.
  __device__ __forceinline__ PlainTile(uint32_t tile, int lane)
      : address_(tile + lane % 16 * kRowBytes + ((lane / 16) ^ (lane % 8)) * 16) {}
  __device__ __forceinline__ void fragment(uint32_t (&a)[4], int k16) const {
    ldmatrix_x4(a, address_ ^ (k16 * kMmaK * 2));
  }

 private:
  uint32_t address_;  // the swizzle is an exclusive or in bits 4 to 6, and so is a step along K
};

template <int kRows>
inline constexpr int kWarpTiles = kRows >= 32 ? 2 : 1;  // m16 tiles of a warp

// One k tile of a warp: `x` is the address of its rows in shared memory, rows past the last one
// give sums that nobody stores.
template <class Tile, int kRows>
__device__ __forceinline__ void multiply(float (&sums)[kWarpTiles<kRows>][kRows / 8][4],
                                         uint32_t weights, uint32_t x, int lane) {
  using T = typename Tile::Value;
  constexpr int kTiles = kWarpTiles<kRows>;
  // Of 8 rows one ldmatrix takes K of 32; of more it takes 16 rows and K of 16.
  constexpr bool kDeep = kRows == 8;
  const int row = kDeep ? lane % 8 : lane % 8 + lane / 16 * 8;
  const int slot = kDeep ? lane / 8 : lane / 8 % 2;
  const uint32_t rows = x + row * kRowBytes + (slot ^ (lane % 8)) * 16;
  const Tile first(weights, lane);
  const Tile second(weights + (kTiles - 1) * Tile::kBytes, lane);
  constexpr int kSteps = kTileK / kMmaK;
  if constexpr (kRows <= 16) {
    // All operands first: few warps and one chain of mma, so it is latency that counts.
    uint32_t a[kSteps][4], b[kSteps][4];
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      first.fragment(a[k16], k16);
      if (!kDeep || k16 % 2 == 0) ldmatrix_x4(b[k16], rows ^ (k16 * kMmaK * 2));
    }
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      const uint32_t(&ak)[4] = a[k16];
      if constexpr (kDeep) {
        const uint32_t* bk = &b[k16 / 2 * 2][k16 % 2 * 2];
        mma_m16n8k16<T>(sums[0][0], ak[0], ak[1], ak[2], ak[3], bk[0], bk[1]);
      } else {
        mma_m16n8k16<T>(sums[0][0], ak[0], ak[1], ak[2], ak[3], b[k16][0], b[k16][1]);
        mma_m16n8k16<T>(sums[0][1], ak[0], ak[1], ak[2], ak[3], b[k16][2], b[k16][3]);
      }
    }
  } else {
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      uint32_t a[kTiles][4], b[kRows / 16][4];
      first.fragment(a[0], k16);
      second.fragment(a[1], k16);
#pragma unroll
      for (int c = 0; c < kRows / 16; ++c)
        ldmatrix_x4(b[c], (rows ^ (k16 * kMmaK * 2)) + c * 16 * kRowBytes);
#pragma unroll
      for (int c = 0; c < kRows / 8; ++c) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
          mma_m16n8k16<T>(sums[i][c], a[i][0], a[i][1], a[i][2], a[i][3], b[c / 2][c % 2 * 2],
                          b[c / 2][c % 2 * 2 + 1]);
      }
    }
  }
}

}  // namespace donar::ops::cuda
