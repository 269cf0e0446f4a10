// Arithmetic of a draw, bit for bit that of the CPU's sampler (engine/draw.cpp, engine/row_math.h):
// products and sums are rounded one by one, weights are integers.
#pragma once

#include <cstdint>

#include "ops/cuda/sample_tokens.h"

namespace donar::ops::cuda {

using u64 = unsigned long long;  // as atomics and shuffles name it

constexpr float kMaxDistance = 28.0f;  // e^-28 < 2^-40: beyond, a token's weight is 0
constexpr float kBucketsPerUnit = 16.0f;

// Larger for larger logits; equal for -0 and 0; 0 for NaN, below -infinity.
__device__ __forceinline__ uint32_t order_key(float logit) {
  if (logit != logit) return 0;
  const uint32_t bits = __float_as_uint(__fadd_rn(logit, 0.0f));
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float key_logit(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Orders tokens by falling logit, ties by rising id.
__device__ __forceinline__ u64 ranked(uint32_t key, int id) {
  return u64{key} << 32 | ~static_cast<uint32_t>(id);
}
__device__ __forceinline__ int ranked_id(u64 rank) {
  return static_cast<int>(~static_cast<uint32_t>(rank));
}
__device__ __forceinline__ uint32_t ranked_key(u64 rank) {
  return static_cast<uint32_t>(rank >> 32);
}

// Of a row's best token: 0 if the row has no number.
__device__ __forceinline__ int best_id_of(u64 rank) {
  return ranked_key(rank) == 0 ? 0 : ranked_id(rank);
}

// e^-distance.
__device__ __forceinline__ float exp_negative(float distance) {
  const float x = distance < 87.0f ? -distance : -87.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504f), kRound);
  const float n = __fsub_rn(shifted, kRound);
  float r = __fsub_rn(x, __fmul_rn(n, 0.693359375f));
  r = __fsub_rn(r, __fmul_rn(n, -2.12194440e-4f));
  float p = 1.0f / 5040.0f;
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 720.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6.0f);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  const int exponent = __float_as_int(shifted) - __float_as_int(kRound);
  return __fmul_rn(p, __int_as_float((exponent + 127) << 23));
}

// floor(e^-distance * unit) for a power of two. Most are small: the conversion to 64 bits, which is
// slow, is left to the few best.
__device__ __forceinline__ u64 scaled_exp(float distance, float unit) {
  const float scaled = __fmul_rn(exp_negative(distance), unit);
  if (scaled < 4294967296.0f) return __float2uint_rz(scaled);
  return __float2ull_rz(scaled);
}

__device__ __forceinline__ u64 weight_of(float distance) {
  return scaled_exp(distance, 1099511627776.0f);  // 2^40, the weight of the best token
}
// For distances below kMaxDistance. Adding 2^23, rounded down, leaves the whole part in the last
// bits: a conversion would take a slower unit.
__device__ __forceinline__ int bucket_of(float distance) {
  return __float_as_int(__fadd_rd(__fmul_rn(distance, kBucketsPerUnit), 8388608.0f)) & 0x7fffff;
}

// The share of `total` that top_p < 1 asks for, at least 1.
__device__ __forceinline__ u64 share_of(float top_p, u64 total) {
  const u64 wanted =
      static_cast<u64>(ceil(__dmul_rn(static_cast<double>(top_p), static_cast<double>(total))));
  return wanted < 1 ? 1 : wanted > total ? total : wanted;
}

// 64 random bits of one position under one seed: Philox4x32-10.
__device__ __forceinline__ u64 random_bits(uint64_t seed, uint64_t position) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = static_cast<uint32_t>(position >> 32);
  uint32_t c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 product0 = u64{0xD2511F53u} * c0, product1 = u64{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return u64{c1} << 32 | c0;
}

struct MaxOf {
  __device__ u64 operator()(u64 a, u64 b) const { return a > b ? a : b; }
};
struct MinOf {
  __device__ u64 operator()(u64 a, u64 b) const { return a < b ? a : b; }
};
struct SumOf {
  __device__ u64 operator()(u64 a, u64 b) const { return a + b; }
};

// In all threads. `scratch` [kThreads / 32] is free again afterwards.
template <int kThreads, class Op>
__device__ __forceinline__ u64 block_reduce(u64 value, u64* scratch, Op op) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value = op(value, __shfl_xor_sync(0xffffffffu, value, step));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) value = op(value, scratch[warp]);
  __syncthreads();
  return value;
}

// Sum over the threads before this one.
template <int kThreads>
__device__ __forceinline__ u64 block_prefix(u64 value, u64* scratch) {
  const int lane = threadIdx.x % 32;
  u64 sum = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const u64 other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) scratch[threadIdx.x / 32] = sum;
  __syncthreads();
  u64 before = sum - value;
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / 32; ++warp) before += scratch[warp];
  __syncthreads();
  return before;
}

}  // namespace donar::ops::cuda
