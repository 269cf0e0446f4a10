// The last part of the prefill kernels: accumulators through shared memory to y. Weights are the
// rows of the products, so that a thread holds two tokens of one output column; y wants columns
// side by side. Shared by prefill_gemm.cu and prefill_gemm_mma.cu.
//
// A warp's block is 16 weight rows by 16 tokens, f[0..7] of a thread (g = lane / 4, t = lane % 4):
//   f[0], f[1]: row g,     tokens 2t, 2t + 1      f[4], f[5]: row g,     tokens 2t + 8, + 9
//   f[2], f[3]: row g + 8, the same tokens        f[6], f[7]: row g + 8, the same tokens
// Staging holds a token's values side by side in 16-byte slots, swizzled so that neither the
// writing nor the reading meets a bank twice.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "ops/cuda/prefill_gemm.h"

#if defined(__CUDACC__)
#include "ops/cuda/common/mma16.cuh"
#endif

namespace donar::ops::cuda {

// Byte offset of a slot in staging of `kSlots` slots a token (4, 8 or 16).
template <int kSlots>
DONAR_HOST_DEVICE constexpr uint32_t staged_offset(int token, int slot) {
  static_assert(kSlots == 4 || kSlots == 8 || kSlots == 16);
  const int swizzle = kSlots == 4 ? token >> 1 & 3 : token & 7;
  return static_cast<uint32_t>(token * kSlots + (slot ^ swizzle)) * 16;
}

#if defined(__CUDACC__)

__device__ __forceinline__ uint32_t pack_pair(float low, float high, __nv_bfloat16) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ uint32_t pack_pair(float low, float high, __half) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Writes two 8 x 8 matrices [column][token], of which each thread holds column g, tokens 2t and
// 2t + 1, as 8 rows [token][column] of 16 bytes. The addresses are those of row lane % 8.
__device__ __forceinline__ void store_transposed(uint32_t address0, uint32_t pair0,
                                                 uint32_t address1, uint32_t pair1) {
  const int lane = threadIdx.x % 32;
#if __CUDA_ARCH__ >= 900
  const uint32_t address = lane & 8 ? address1 : address0;
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(address),
               "r"(pair0), "r"(pair1)
               : "memory");
#else
  // No stmatrix before sm_90. A lane then has a pair of row lane / 4, whose address lane / 4 has.
  pair0 = transpose_8x8(pair0);
  pair1 = transpose_8x8(pair1);
  address0 = __shfl_sync(0xffffffff, address0, lane / 4) + lane % 4 * 4;
  address1 = __shfl_sync(0xffffffff, address1, lane / 4) + lane % 4 * 4;
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address0), "r"(pair0) : "memory");
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address1), "r"(pair1) : "memory");
#endif
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

// Bias of the block's rows g and g + 8.
struct BlockBias {
  float low = 0;
  float high = 0;
};

// wanted: the rows are to have it. kSiluMul asks for rows of columns that exist, both at once.
__device__ __forceinline__ BlockBias block_bias(const PrefillArgs& args, int packed_row,
                                                bool wanted) {
  BlockBias bias;
  if (args.bias == nullptr || !wanted) return bias;
  const int low = packed_row + threadIdx.x % 32 / 4;
  if (low < args.packed_rows) bias.low = args.bias[low];
  if (low + 8 < args.packed_rows) bias.high = args.bias[low + 8];
  return bias;
}

// 16 rows of 16 tokens from `token` on as 16-bit values: two slots.
template <class T, int kSlots>
__device__ __forceinline__ void stage_values(uint32_t staging, int token, int slot, const float* f,
                                             BlockBias bias) {
  const int row = token + threadIdx.x % 8;
  const uint32_t first = staging + staged_offset<kSlots>(row, slot);
  const uint32_t second = staging + staged_offset<kSlots>(row, slot + 1);
  store_transposed(first, pack_pair(f[0] + bias.low, f[1] + bias.low, T{}), second,
                   pack_pair(f[2] + bias.high, f[3] + bias.high, T{}));
  constexpr uint32_t kEightTokens = 8 * kSlots * 16;  // the swizzle repeats
  store_transposed(first + kEightTokens, pack_pair(f[4] + bias.low, f[5] + bias.low, T{}),
                   second + kEightTokens, pack_pair(f[6] + bias.high, f[7] + bias.high, T{}));
}

// 8 columns silu(gate) * up of 16 tokens: one slot.
template <class T, int kSlots>
__device__ __forceinline__ void stage_silu_mul(uint32_t staging, int token, int slot,
                                               const float* f, BlockBias bias, bool exists) {
  float h[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int gate = i / 2 * 4 + i % 2;
    const float product = silu(f[gate] + bias.low) * (f[gate + 2] + bias.high);
    h[i] = exists ? product : 0.0f;  // what lies beyond the last row may be anything
  }
  const uint32_t first = staging + staged_offset<kSlots>(token + threadIdx.x % 8, slot);
  store_transposed(first, pack_pair(h[0], h[1], T{}), first + 8 * kSlots * 16,
                   pack_pair(h[2], h[3], T{}));
}

// 16 rows of 16 tokens in f32: four slots.
__device__ __forceinline__ void stage_partials(uint32_t staging, int token, int slot,
                                               const float* f, BlockBias bias) {
  const int g = threadIdx.x % 32 / 4;
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = token + i / 4 * 8 + 2 * t + i % 2;
    const int half = i / 2 % 2;
    const uint32_t address = staging + staged_offset<16>(row, slot + 2 * half + g / 4) + g % 4 * 4;
    const float value = f[i] + (half ? bias.high : bias.low);
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
  }
}

__device__ __forceinline__ uint4 load_slot(uint32_t address) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

template <class Element>
__device__ __forceinline__ Element load_element(uint32_t address) {
  Element value;
  if constexpr (sizeof(Element) == 2) {
    uint16_t bits;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(bits) : "r"(address) : "memory");
    __builtin_memcpy(&value, &bits, sizeof(value));
  } else {
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  }
  return value;
}

// Staged tokens to y[row][column...] of Element (16-bit or f32): rows [first_row, + kTokens) and 64
// columns from first_column on, those that exist. kThreads threads, `thread` of them.
template <class Element, int kTokens, int kThreads>
__device__ __forceinline__ void copy_rows(uint32_t staging, Element* y, int first_row, int rows,
                                          int first_column, int columns, int thread) {
  constexpr int kPerSlot = 16 / sizeof(Element);
  constexpr int kSlots = 64 / kPerSlot;
  const int slot = thread % kSlots;
  const int column = first_column + slot * kPerSlot;
  const bool whole = columns % kPerSlot == 0 && column < columns;
#pragma unroll
  for (int i = 0; i < kTokens * kSlots / kThreads; ++i) {
    const int token = thread / kSlots + i * (kThreads / kSlots);
    const int row = first_row + token;
    if (row >= rows) break;
    const uint32_t from = staging + staged_offset<kSlots>(token, slot);
    Element* to = y + int64_t{row} * columns + column;
    if (whole) {
      *reinterpret_cast<uint4*>(to) = load_slot(from);
    } else {
#pragma unroll 1
      for (int e = 0; e < kPerSlot && column + e < columns; ++e) {
        to[e] = load_element<Element>(from + e * sizeof(Element));
      }
    }
  }
}

// Staged tokens to slots [first_slot, + kSlots) of one k tile of a k-tiled matrix.
template <int kSlots, int kTokens, int kThreads>
__device__ __forceinline__ void copy_tiled(uint32_t staging, void* y, int k_tile, int first_slot,
                                           int first_row, int rows, int thread) {
  const int slot = thread % kSlots;
  uint4* tile = static_cast<uint4*>(y) + int64_t{k_tile} * rows * 8;
#pragma unroll
  for (int i = 0; i < kTokens * kSlots / kThreads; ++i) {
    const int token = thread / kSlots + i * (kThreads / kSlots);
    const int row = first_row + token;
    if (row >= rows) break;
    tile[int64_t{row} * 8 + ((first_slot + slot) ^ (row & 7))] =
        load_slot(staging + staged_offset<kSlots>(token, slot));
  }
}

#endif  // __CUDACC__

}  // namespace donar::ops::cuda
