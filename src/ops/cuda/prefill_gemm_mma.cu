// Products with more than 64 rows on every device from sm_80 on: mma.sync with cp.async. A CTA
// works on 128 weight rows by 128 tokens, 8 warps of 32 by 64 each; three k tiles are in shared
// memory, two of them on their way. Weights are the rows of the products as on Hopper, so that both
// kernels share their last part.
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/mbarrier.cuh"
#include "ops/cuda/common/mma16.cuh"
#include "ops/cuda/prefill_epilogue.cuh"
#include "ops/cuda/prefill_gemm.h"

namespace donar::ops::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 128;
constexpr int kStages = 3;
constexpr int kRowBytes = kTileK * 2;
constexpr int kWeightBytes = kPrefillWeightTile * kRowBytes;
constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
constexpr int kSharedBytes = kStages * kStageBytes;  // 96 KB; the smallest device has 99
constexpr int kSlots = kRowBytes / 16;

// 16 bytes from global to shared memory, or zeros.
__device__ __forceinline__ void copy_slot(uint32_t to, const uint8_t* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(exists ? 16 : 0)
               : "memory");
}

// What a thread copies of a k tile: the same slot of four weight rows and of four tokens, 32 apart.
// 32 rows are 4 KB in a row in the n tile as in shared memory, swizzle included.
struct ThreadCopy {
  const uint8_t* weights[4];
  const uint8_t* tokens;
  int64_t weight_step;  // bytes to the next k tile
  int64_t token_step;
  int num_weights;  // of the four that exist
  int num_tokens;
};

__device__ __forceinline__ ThreadCopy thread_copy(const PrefillArgs& args, int first_row,
                                                  int first_token, int first_k) {
  const int row = threadIdx.x / kSlots;
  const int slot = threadIdx.x % kSlots;
  ThreadCopy copy;
  copy.weight_step = int64_t{args.tile_rows} * kRowBytes;
  copy.token_step = int64_t{args.rows} * kRowBytes;
  copy.num_weights = min((args.padded_rows - first_row) / kGranuleRows, 4);
  copy.num_tokens = min(max((args.rows - first_token - row + 31) / 32, 0), 4);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int granule = first_row + (i < copy.num_weights ? i : 0) * kGranuleRows;
    copy.weights[i] = args.weights + granule_offset(granule, args.k_tiles, args.tile_rows) +
                      row * kRowBytes + slot * 16 + first_k * copy.weight_step;
  }
  copy.tokens =
      args.x + (int64_t{first_token} + row) * kRowBytes + slot * 16 + first_k * copy.token_step;
  return copy;
}

// Starts the copy of the k tile that `copy` points to and steps to the next one. Rows that do not
// exist become zeros.
__device__ __forceinline__ void fetch(ThreadCopy& copy, uint32_t stage) {
  const uint32_t to = stage + threadIdx.x * 16;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    copy_slot(to + i * kGranuleBytes, copy.weights[i], i < copy.num_weights);
    copy.weights[i] += copy.weight_step;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool exists = i < copy.num_tokens;
    copy_slot(to + kWeightBytes + i * kGranuleBytes, copy.tokens + (exists ? i * kGranuleBytes : 0),
              exists);
  }
  copy.tokens += copy.token_step;
}

// A warp's 32 rows by 64 tokens: acc[m][block][8], blocks as in prefill_epilogue.cuh.
template <class T>
__device__ __forceinline__ void multiply(float (&acc)[2][4][8], uint32_t stage, int warp_row,
                                         int warp_token) {
  const auto multiply_add = [](float* d, const uint32_t(&a)[4], uint32_t b0, uint32_t b1) {
    mma_m16n8k16<T>(*reinterpret_cast<float(*)[4]>(d), a[0], a[1], a[2], a[3], b0, b1);
  };
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  const int in_matrix = lane % 8;
  const uint32_t rows = stage + (warp_row + (matrix & 1) * 8 + in_matrix) * kRowBytes;
  const uint32_t tokens =
      stage + kWeightBytes + (warp_token + (matrix >> 1) * 8 + in_matrix) * kRowBytes;
#pragma unroll
  for (int k = 0; k < kTileK / 16; ++k) {
    uint32_t a[2][4];
    uint32_t b[4][4];
    const uint32_t a_slot = ((2 * k + (matrix >> 1)) ^ in_matrix) * 16;
    const uint32_t b_slot = ((2 * k + (matrix & 1)) ^ in_matrix) * 16;
#pragma unroll
    for (int m = 0; m < 2; ++m) ldmatrix_x4(a[m], rows + m * 16 * kRowBytes + a_slot);
#pragma unroll
    for (int n = 0; n < 4; ++n) ldmatrix_x4(b[n], tokens + n * 16 * kRowBytes + b_slot);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        multiply_add(&acc[m][n][0], a[m], b[n][0], b[n][1]);
        multiply_add(&acc[m][n][4], a[m], b[n][2], b[n][3]);
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void store(const PrefillArgs& args, const PrefillUnit& unit,
                                      int first_row, int first_token, uint32_t staging,
                                      const float (&acc)[2][4][8], int warp_row, int warp_token) {
  constexpr uint32_t kSlabBytes = kTokens * 128;  // 64 columns of 16 bits
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const int row = warp_row + m * 16;  // in the tile
    const int packed_row = first_row + row;
    if (args.output == PrefillOutput::kSiluMul) {
      const bool exists = packed_row / 2 + lane / 4 < args.columns;
      const BlockBias bias = block_bias(args, packed_row, exists);
#pragma unroll
      for (int n = 0; n < 4; ++n)
        stage_silu_mul<T, 8>(staging, warp_token + n * 16, row / 16, acc[m][n], bias, exists);
    } else if (args.output == PrefillOutput::kValues) {
      const BlockBias bias = block_bias(args, packed_row, true);
      const uint32_t slab = staging + row / 64 * kSlabBytes;
#pragma unroll
      for (int n = 0; n < 4; ++n)
        stage_values<T, 8>(slab, warp_token + n * 16, row % 64 / 8, acc[m][n], bias);
    } else {
      const BlockBias bias = block_bias(args, packed_row, unit.split == 0);
      const uint32_t slab = staging + row / 64 * 2 * kSlabBytes;
#pragma unroll
      for (int n = 0; n < 4; ++n)
        stage_partials(slab, warp_token + n * 16, row % 64 / 4, acc[m][n], bias);
    }
  }
  __syncthreads();
  const int thread = threadIdx.x;
  if (args.output == PrefillOutput::kSiluMul) {
    copy_tiled<8, kTokens, kThreads>(staging, args.y, first_row / kPrefillWeightTile, 0,
                                     first_token, args.rows, thread);
  } else if (args.output == PrefillOutput::kValues) {
#pragma unroll
    for (int slab = 0; slab < 2; ++slab)
      copy_rows<T, kTokens, kThreads>(staging + slab * kSlabBytes, static_cast<T*>(args.y),
                                      first_token, args.rows, first_row + slab * 64, args.columns,
                                      thread);
  } else {
    float* part = static_cast<float*>(args.y) + int64_t{unit.split} * args.rows * args.columns;
#pragma unroll
    for (int slab = 0; slab < 2; ++slab)
      copy_rows<float, kTokens, kThreads>(staging + slab * 2 * kSlabBytes, part, first_token,
                                          args.rows, first_row + slab * 64, args.columns, thread);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    prefill_mma_kernel(const __grid_constant__ PrefillArgs args) {
  pdl_launch_dependents();
  extern __shared__ __align__(128) uint8_t shared_memory[];
  const uint32_t shared = shared_address(shared_memory);
  const PrefillUnit unit = prefill_unit(args.grid, blockIdx.x);
  const int first_row = unit.row_tile * kPrefillWeightTile;
  const int first_token = unit.token_tile * kTokens;
  const int first_k = prefill_split_begin(args.k_tiles, args.grid.splits, unit.split);
  const int stages = prefill_split_begin(args.k_tiles, args.grid.splits, unit.split + 1) - first_k;
  const int warp = threadIdx.x / 32;
  const int warp_row = warp % 4 * 32;
  const int warp_token = warp / 4 * 64;

  pdl_wait();
  ThreadCopy copy = thread_copy(args, first_row, first_token, first_k);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < stages) fetch(copy, shared + i * kStageBytes);
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  float acc[2][4][8] = {};
  int read = 0;
  int write = kStages - 1;
  for (int i = 0; i < stages; ++i) {
    // One group a step, so that all but the newest is "this stage has arrived".
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
    __syncthreads();  // for all threads; and all have read the stage that is written next
    if (i + kStages - 1 < stages) fetch(copy, shared + write * kStageBytes);
    asm volatile("cp.async.commit_group;" ::: "memory");
    multiply<T>(acc, shared + read * kStageBytes, warp_row, warp_token);
    if (++read == kStages) read = 0;
    if (++write == kStages) write = 0;
  }
  __syncthreads();  // the ring becomes the staging
  store<T>(args, unit, first_row, first_token, shared, acc, warp_row, warp_token);
}

}  // namespace

void prefill_gemm_mma(const PrefillGemmParams& params, const CudaExec& exec) {
  const PrefillArgs args = prefill_args(params, kTokens, /*cluster=*/1);
  const dim3 grid(static_cast<uint32_t>(args.grid.units()));
  if (params.bf16) {
    launch<prefill_mma_kernel<__nv_bfloat16>>(grid, dim3(kThreads), kSharedBytes, exec, args);
  } else {
    launch<prefill_mma_kernel<__half>>(grid, dim3(kThreads), kSharedBytes, exec, args);
  }
}

}  // namespace donar::ops::cuda
