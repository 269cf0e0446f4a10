// Weight formats as the decode kernel sees them, and a warp's products of one k tile.
#pragma once

#include "ops/cuda/common/mma16.cuh"
#include "ops/cuda/decode_maps.h"

namespace donar::ops::cuda {

// A weight format is a type like this one: the bytes of 16 rows by 64 columns, which lie one after
// the other in a stage, and how a lane gets its A fragments from them. A format that unpacks loads
// in the constructor what it needs for all four.
template <class T>
struct PlainTile {
  using Value = T;
  static constexpr int kBytes = kMmaRows * kRowBytes;

  __device__ __forceinline__ PlainTile(uint32_t tile, int lane)
      : address_(tile + weight_lane_offset(lane)) {}
  __device__ __forceinline__ void fragment(uint32_t (&a)[4], int k16) const {
    ldmatrix_x4(a, at_k16(address_, k16));
  }

 private:
  uint32_t address_;
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
  const uint32_t rows = x + x_lane_offset(lane, kDeep);
  const Tile first(weights, lane);
  const Tile second(weights + (kTiles - 1) * Tile::kBytes, lane);
  constexpr int kSteps = kTileK / kMmaK;
  if constexpr (kRows <= 16) {
    // All operands first: few warps and one chain of mma, so it is latency that counts.
    uint32_t a[kSteps][4], b[kSteps][4];
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      first.fragment(a[k16], k16);
      if (!kDeep || k16 % 2 == 0) ldmatrix_x4(b[k16], at_k16(rows, k16));
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
        ldmatrix_x4(b[c], at_k16(rows, k16) + c * 16 * kRowBytes);
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
