// One thread makes the 8 values of a 16-byte slot; consecutive threads write consecutive slots.
#include "ops/cuda/fill_random.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "ops/cuda/common/launch.cuh"
#include "ops/random_value.h"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSlot = 8;                      // values in 16 bytes
constexpr int kSlotsPerRow = kTileK / kSlot;  // of one k tile
constexpr int64_t kBlocksPerSm = 32;

__device__ uint32_t pack(float low, float high, bool bf16) {
  if (bf16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__global__ void __launch_bounds__(kThreads) fill_random_kernel(const FillRandomParams params) {
  pdl_launch_dependents();
  pdl_wait();
  const int64_t k_tiles = num_k_tiles(params.k);
  const int64_t num_slots = k_tiles * params.n * kSlotsPerRow;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_slots; i += step) {
    // Slots of a row first, then rows: the rows of one k tile lie together.
    const int slot = static_cast<int>(i % kSlotsPerRow);
    const int64_t row = i / kSlotsPerRow % params.n;
    const int64_t k_begin = i / kSlotsPerRow / params.n * kTileK + slot * kSlot;
    const int64_t packed_row =
        params.gate_or_up >= 0 ? interleaved_row(row, params.gate_or_up) : params.first_row + row;
    float values[kSlot];
#pragma unroll
    for (int j = 0; j < kSlot; ++j)
      values[j] =
          k_begin + j < params.k ? random_value(params.seed, row, k_begin + j, params.scale) : 0.0f;
    uint4 bits;
    bits.x = pack(values[0], values[1], params.bf16);
    bits.y = pack(values[2], values[3], params.bf16);
    bits.z = pack(values[4], values[5], params.bf16);
    bits.w = pack(values[6], values[7], params.bf16);
    auto* out = static_cast<uint16_t*>(params.packed) +
                tiled_weight_offset(packed_row, k_begin, params.k, params.tile_rows);
    *reinterpret_cast<uint4*>(out) = bits;
  }
}

}  // namespace

void fill_random(const FillRandomParams& params, const CudaExec& exec) {
  const int64_t num_slots = num_k_tiles(params.k) * params.n * kSlotsPerRow;
  if (num_slots == 0) return;
  const int64_t blocks =
      std::min((num_slots + kThreads - 1) / kThreads, kBlocksPerSm * int64_t{exec.num_sms});
  launch(fill_random_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
         /*shared_bytes=*/0, exec, params);
}

}  // namespace donar::ops::cuda
