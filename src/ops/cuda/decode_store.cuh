// How the decode kernel's sums leave the registers: as f32 parts of y, or as silu(gate) * up in the
// k-tiled form that the next product reads.
#pragma once

#include "ops/cuda/common/mma16.cuh"
#include "ops/cuda/common/tiled.h"
#include "ops/cuda/common/values16.cuh"
#include "ops/cuda/decode_gemm.h"

namespace donar::ops::cuda {

// What the kernel is launched with: 32-bit forms of DecodeGemmParams and the ring.
struct DecodeArgs {
  const uint8_t* weights;
  const uint8_t* x;
  const float* bias;
  void* y;
  int64_t part_stride;
  int64_t row_stride;
  int rows;
  int x_rows;
  int y_rows;
  int packed_rows;  // weight rows that count: n, or whole runs of gate and up
  int columns;      // of y: n, or n / 2
  int k_tiles;
  int tile_rows;
  int tile_bytes;  // of one n tile and k tile
  int splits;
  int items;        // n tiles x splits; item = n tile * splits + split
  int stage_tiles;  // k tiles of a stage of the ring
  int stages;
  int stage_bytes;
};

// The sums of one warp: kTiles runs of 16 packed rows by kColumns runs of 8 rows of x. Lane 4 g + t
// holds in sums[i][c] = {row g of x-rows 2t, 2t + 1; row g + 8 of the same}.
template <int kTiles, int kColumns>
struct WarpSums {
  float sums[kTiles][kColumns][4];
  float bias[kTiles][2];  // of rows g and g + 8

  // Asks for the bias now, so that it is there at the end.
  __device__ __forceinline__ void begin(const DecodeArgs& args, int first_row, bool with_bias,
                                        int lane) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + 16 * i + 8 * half + lane / 4;
        bias[i][half] = with_bias && row < args.packed_rows ? __ldg(args.bias + row) : 0.0f;
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][c][e] = 0.0f;
      }
    }
  }

  // y[row of x][packed row]: each store fills four 32-byte sectors.
  __device__ __forceinline__ void store_partials(const DecodeArgs& args, int first_row, int split,
                                                 int lane) const {
    float* part = static_cast<float*>(args.y) + split * args.part_stride;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = first_row + 16 * i + 8 * half + lane / 4;
        if (column >= args.columns) continue;
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int row = 8 * c + lane % 4 * 2 + e;
            if (row < args.rows)
              part[row * args.row_stride + column] = sums[i][c][2 * half + e] + bias[i][half];
          }
        }
      }
    }
  }

  // 16 packed rows are 8 columns of y: one 16-byte slot of each row, turned round by movmatrix so
  // that four lanes write it together.
  template <class T>
  __device__ __forceinline__ void store_silu_mul(const DecodeArgs& args, int first_row,
                                                 int lane) const {
    T* const y = static_cast<T*>(args.y);
    const int num_slots = static_cast<int>(num_k_tiles(args.columns)) * (kTileK / 8);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int slot = first_row / 16 + i;
      const bool exists = slot * 8 + lane / 4 < args.columns;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const float* s = sums[i][c];
        const float low = silu(s[0] + bias[i][0]) * (s[2] + bias[i][1]);
        const float high = silu(s[1] + bias[i][0]) * (s[3] + bias[i][1]);
        const uint32_t values = transpose_8x8(exists ? pack2<T>(low, high) : 0u);
        const int row = 8 * c + lane / 4;
        if (slot < num_slots && row < args.rows) {
          const int64_t at = tiled_offset(row, int64_t{slot} * 8, args.y_rows) + lane % 4 * 2;
          *reinterpret_cast<uint32_t*>(y + at) = values;
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ float silu(float z) { return __fdividef(z, 1.0f + __expf(-z)); }
};

// Zeros in the slots of the last k tile of y that no packed row stands for.
template <class T>
__device__ __forceinline__ void store_silu_mul_tail(const DecodeArgs& args, int thread,
                                                    int threads) {
  const int first = (args.packed_rows + args.tile_rows - 1) / args.tile_rows * args.tile_rows / 16;
  const int num_slots = static_cast<int>(num_k_tiles(args.columns)) * (kTileK / 8);
  T* const y = static_cast<T*>(args.y);
  for (int i = thread; i < (num_slots - first) * args.rows; i += threads) {
    const int64_t slot = first + i / args.rows;
    *reinterpret_cast<uint4*>(y + tiled_offset(i % args.rows, slot * 8, args.y_rows)) = {};
  }
}

}  // namespace donar::ops::cuda
