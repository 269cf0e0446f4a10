// A thread makes 16-byte slots (8 values) of packed rows: the 8 threads of a row write its 128
// bytes of a k tile, the rows of a block lie together, and what a row reads lies together too.
#include "ops/cuda/repack.h"

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/values16.cuh"
#include "quant/blocks.h"

namespace donar::ops::cuda {
namespace {

using quant::Format;

constexpr int kSlot = 8;  // values of a thread at a time
constexpr int kRowThreads = kTileK / kSlot;
constexpr int kBlockRows = 32;
constexpr int kBlockTiles = 4;  // k tiles of a thread

__device__ __forceinline__ float f16_value(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

// Bytes [first, first + 8) of an array that is only 2-byte aligned.
__device__ __forceinline__ void load_bytes(uint8_t (&bytes)[kSlot], const uint8_t* from) {
#pragma unroll
  for (int i = 0; i < kSlot; i += 2) {
    const uint16_t pair = *reinterpret_cast<const uint16_t*>(from + i);
    bytes[i] = static_cast<uint8_t>(pair & 0xff);
    bytes[i + 1] = static_cast<uint8_t>(pair >> 8);
  }
}

// Values k to k + 7 of a row in each format. Products and sums are rounded one by one, as on the
// host. Plain floats may end within the 8; blocks cannot, for their sizes are multiples of 8.
template <class T>
struct PlainRow {
  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t end) {
    const T* from = reinterpret_cast<const T*>(row) + k;
    if (k + kSlot <= end && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
      alignas(16) T values[kSlot];
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(values) / 16); ++i)
        reinterpret_cast<uint4*>(values)[i] = reinterpret_cast<const uint4*>(from)[i];
#pragma unroll
      for (int i = 0; i < kSlot; ++i) v[i] = to_float(values[i]);
      return;
    }
#pragma unroll
    for (int i = 0; i < kSlot; ++i) v[i] = k + i < end ? to_float(from[i]) : 0.0f;
  }
};

// Q4_0, Q4_1, Q5_0, Q5_1: 32 values of four or five bits, with a minimum or around zero.
template <class Block>
struct LowBitsRow {
  static constexpr bool kFiveBits = requires(Block block) { block.qh; };
  static constexpr bool kHasMin = requires(Block block) { block.m; };

  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t) {
    const auto* block = reinterpret_cast<const Block*>(row) + k / Block::kValues;
    const int j = static_cast<int>(k % Block::kValues);
    const float d = f16_value(block->d);
    float m = 0.0f;
    if constexpr (kHasMin) m = f16_value(block->m);
    int fifth = 0;  // of values j to j + 7
    if constexpr (kFiveBits) fifth = block->qh[j / 8];
    uint8_t q[kSlot];
    load_bytes(q, block->qs + j % 16);
#pragma unroll
    for (int i = 0; i < kSlot; ++i) {
      const int value = (j < 16 ? q[i] & 15 : q[i] >> 4) | (fifth >> i & 1) << 4;
      if constexpr (kHasMin) {
        v[i] = __fadd_rn(__fmul_rn(static_cast<float>(value), d), m);
      } else {
        v[i] = __fmul_rn(static_cast<float>(value - (kFiveBits ? 16 : 8)), d);
      }
    }
  }
};

struct Q8_0Row {
  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t) {
    using Block = quant::BlockQ8_0;
    const auto* block = reinterpret_cast<const Block*>(row) + k / Block::kValues;
    const float d = f16_value(block->d);
    uint8_t q[kSlot];
    load_bytes(q, reinterpret_cast<const uint8_t*>(block->qs) + k % Block::kValues);
#pragma unroll
    for (int i = 0; i < kSlot; ++i)
      v[i] = __fmul_rn(static_cast<float>(static_cast<int8_t>(q[i])), d);
  }
};

// Scale and minimum of six bits of run r: how they are stored is told in quant/blocks.h.
__device__ __forceinline__ void load_k_scale(int& scale, int& min, const uint8_t* stored, int r) {
  if (r < 4) {
    scale = stored[r] & 63;
    min = stored[r + 4] & 63;
  } else {
    scale = (stored[r + 4] & 15) | stored[r - 4] >> 6 << 4;
    min = stored[r + 4] >> 4 | stored[r] >> 6 << 4;
  }
}

// Q4_K and Q5_K: fifth[i] >> run & 1 lies above the nibbles.
template <class Block>
__device__ __forceinline__ void load_k_run(float (&v)[kSlot], const Block& block, int j,
                                           const uint8_t (&fifth)[kSlot]) {
  const int run = j / 32;
  int level, min_level;
  load_k_scale(level, min_level, block.scales, run);
  const float scale = __fmul_rn(f16_value(block.d), static_cast<float>(level));
  const float min = __fmul_rn(f16_value(block.dmin), static_cast<float>(min_level));
  uint8_t q[kSlot];
  load_bytes(q, block.qs + run / 2 * 32 + j % 32);
#pragma unroll
  for (int i = 0; i < kSlot; ++i) {
    const int value = (q[i] >> run % 2 * 4 & 15) | (fifth[i] >> run & 1) << 4;
    v[i] = __fsub_rn(__fmul_rn(scale, static_cast<float>(value)), min);
  }
}

struct Q4_KRow {
  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t) {
    using Block = quant::BlockQ4_K;
    const auto* block = reinterpret_cast<const Block*>(row) + k / Block::kValues;
    const uint8_t fifth[kSlot] = {};
    load_k_run(v, *block, static_cast<int>(k % Block::kValues), fifth);
  }
};

struct Q5_KRow {
  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t) {
    using Block = quant::BlockQ5_K;
    const auto* block = reinterpret_cast<const Block*>(row) + k / Block::kValues;
    uint8_t fifth[kSlot];
    load_bytes(fifth, block->qh + k % 32);
    load_k_run(v, *block, static_cast<int>(k % Block::kValues), fifth);
  }
};

struct Q6_KRow {
  static __device__ __forceinline__ void load(float (&v)[kSlot], const uint8_t* row, int64_t k,
                                              int64_t) {
    using Block = quant::BlockQ6_K;
    const auto* block = reinterpret_cast<const Block*>(row) + k / Block::kValues;
    const int j = static_cast<int>(k % Block::kValues);
    // Value 128 half + 32 quarter + l: the low bits of quarters 0 and 2, 1 and 3 share bytes.
    const int half = j / 128, quarter = j % 128 / 32, l = j % 32;
    const float scale = __fmul_rn(f16_value(block->d), static_cast<float>(block->scales[j / 16]));
    uint8_t low[kSlot], high[kSlot];
    load_bytes(low, block->ql + half * 64 + quarter % 2 * 32 + l);
    load_bytes(high, block->qh + half * 32 + l);
#pragma unroll
    for (int i = 0; i < kSlot; ++i) {
      const int q = (low[i] >> quarter / 2 * 4 & 15) | (high[i] >> 2 * quarter & 3) << 4;
      v[i] = __fmul_rn(scale, static_cast<float>(q - 32));
    }
  }
};

template <class Row, class T>
__global__ void __launch_bounds__(kBlockRows* kRowThreads)
    repack_kernel(const __grid_constant__ RepackParams params, int64_t row_bytes) {
  pdl_launch_dependents();
  pdl_wait();
  const int64_t i = int64_t{blockIdx.x} * kBlockRows + threadIdx.x / kRowThreads;
  if (i >= params.rows) return;
  const uint8_t* row = static_cast<const uint8_t*>(params.stored) + i * row_bytes;
  T* const packed = static_cast<T*>(params.packed);
  const int64_t packed_row = params.packed_row(i);
  const int64_t begin =
      int64_t{blockIdx.y} * kBlockTiles * kTileK + threadIdx.x % kRowThreads * kSlot;
#pragma unroll
  for (int tile = 0; tile < kBlockTiles; ++tile) {
    const int64_t k = begin + tile * kTileK;
    if (k >= num_k_tiles(params.k) * kTileK) break;
    float v[kSlot] = {};
    if (k < params.k) Row::load(v, row, k, params.k);
    *reinterpret_cast<uint4*>(packed +
                              tiled_weight_offset(packed_row, k, params.k, params.tile_rows)) = {
        pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7])};
  }
}

template <class Row>
void launch_row(const RepackParams& params, int64_t row_bytes, const CudaExec& exec) {
  const dim3 grid(static_cast<unsigned>((params.rows + kBlockRows - 1) / kBlockRows),
                  static_cast<unsigned>((num_k_tiles(params.k) + kBlockTiles - 1) / kBlockTiles));
  const dim3 block(kBlockRows * kRowThreads);
  if (params.bf16) {
    launch(repack_kernel<Row, __nv_bfloat16>, grid, block, 0, exec, params, row_bytes);
  } else {
    launch(repack_kernel<Row, __half>, grid, block, 0, exec, params, row_bytes);
  }
}

}  // namespace

void repack(const RepackParams& params, const CudaExec& exec) {
  if (params.rows == 0) return;
  switch (params.format) {
    case Format::kF32:
      return launch_row<PlainRow<float>>(params, params.k * 4, exec);
    case Format::kF16:
      return launch_row<PlainRow<__half>>(params, params.k * 2, exec);
    case Format::kBF16:
      return launch_row<PlainRow<__nv_bfloat16>>(params, params.k * 2, exec);
    case Format::kQ4_0:
      return launch_row<LowBitsRow<quant::BlockQ4_0>>(
          params, params.k / 32 * sizeof(quant::BlockQ4_0), exec);
    case Format::kQ4_1:
      return launch_row<LowBitsRow<quant::BlockQ4_1>>(
          params, params.k / 32 * sizeof(quant::BlockQ4_1), exec);
    case Format::kQ5_0:
      return launch_row<LowBitsRow<quant::BlockQ5_0>>(
          params, params.k / 32 * sizeof(quant::BlockQ5_0), exec);
    case Format::kQ5_1:
      return launch_row<LowBitsRow<quant::BlockQ5_1>>(
          params, params.k / 32 * sizeof(quant::BlockQ5_1), exec);
    case Format::kQ8_0:
      return launch_row<Q8_0Row>(params, params.k / 32 * sizeof(quant::BlockQ8_0), exec);
    case Format::kQ4_K:
      return launch_row<Q4_KRow>(params, params.k / 256 * sizeof(quant::BlockQ4_K), exec);
    case Format::kQ5_K:
      return launch_row<Q5_KRow>(params, params.k / 256 * sizeof(quant::BlockQ5_K), exec);
    case Format::kQ6_K:
      return launch_row<Q6_KRow>(params, params.k / 256 * sizeof(quant::BlockQ6_K), exec);
  }
}

}  // namespace donar::ops::cuda
