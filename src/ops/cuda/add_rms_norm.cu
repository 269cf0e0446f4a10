// x += sum of delta's parts; y = x * rsqrt(mean(x^2) + eps) * weight. One block per row, which it
// keeps in registers: what a thread holds and the order of the sums depend on dim alone, so a row's
// bits do not depend on the rows beside it.
#include "ops/cuda/add_rms_norm.h"

#include <algorithm>

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/tiled.h"
#include "ops/cuda/common/values16.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kMaxWarps = kMaxThreads / 32;

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// A thread's i-th group of 4 columns begins at 4 * (threadIdx.x + i * blockDim.x); kQuads groups.
// kVector: rows lie on borders of 16 bytes (8 for 16-bit types) and dim is a multiple of 4. Then a
// thread loads without a condition, so that all its loads are in flight at once: columns beyond
// the row are read from its end and taken for zero.
template <int kQuads, bool kVector>
struct Columns {
  int dim;

  __device__ __forceinline__ int begin(int i) const {
    return 4 * static_cast<int>(threadIdx.x + i * blockDim.x);
  }
  __device__ __forceinline__ bool has(int i) const { return begin(i) < dim; }

  __device__ __forceinline__ float4 load(const float* row, int i) const {
    if constexpr (kVector) {
      return *reinterpret_cast<const float4*>(row + min(begin(i), dim - 4));
    } else {
      return load_singly(row, i);
    }
  }

  template <class T>
  __device__ __forceinline__ float4 load(const T* row, int i) const {
    if constexpr (kVector) {
      const uint2 bits = *reinterpret_cast<const uint2*>(row + min(begin(i), dim - 4));
      const float2 low = unpack2<T>(bits.x), high = unpack2<T>(bits.y);
      return {low.x, low.y, high.x, high.y};
    } else {
      return load_singly(row, i);
    }
  }

  // Of constants only. kEarly: before the wait for the kernel in front; every other kind of load is
  // put where its value is used.
  template <bool kEarly>
  __device__ __forceinline__ float4 load_constant(const float* row, int i) const {
    if constexpr (kVector) {
      const float* at = row + min(begin(i), dim - 4);
      if constexpr (kEarly) {
        float4 v;
        asm volatile("ld.volatile.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                     : "l"(at));
        return v;
      } else {
        return __ldg(reinterpret_cast<const float4*>(at));
      }
    } else {
      return load_singly(row, i);
    }
  }

  __device__ __forceinline__ void store(float* row, int i, float4 v) const {
    const int c = begin(i);
    if constexpr (kVector) {
      if (c < dim) *reinterpret_cast<float4*>(row + c) = v;
    } else {
      if (c < dim) row[c] = v.x;
      if (c + 1 < dim) row[c + 1] = v.y;
      if (c + 2 < dim) row[c + 2] = v.z;
      if (c + 3 < dim) row[c + 3] = v.w;
    }
  }

 private:
  template <class T>
  __device__ __forceinline__ float4 load_singly(const T* row, int i) const {
    const int c = begin(i);
    return {c < dim ? to_float(row[c]) : 0.0f, c + 1 < dim ? to_float(row[c + 1]) : 0.0f,
            c + 2 < dim ? to_float(row[c + 2]) : 0.0f, c + 3 < dim ? to_float(row[c + 3]) : 0.0f};
  }
};

// sum[i] += the first kParts parts from `delta` on, in order.
template <int kParts, int kGroups, class Columns>
__device__ __forceinline__ void add_batch(float4 (&sum)[kGroups], const Columns& columns,
                                          const float* delta, int64_t part_stride, int first) {
  float4 v[kParts][kGroups];
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) v[j][i] = columns.load(delta + j * part_stride, first + i);
  }
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) sum[i] = sum[i] + v[j][i];
  }
}

// x += the sum of the parts. Long rows take one group after the other, so that their loads fit into
// registers; the sums are the same.
template <int kQuads, bool kVector>
__device__ __forceinline__ void add_parts(float4 (&x)[kQuads],
                                          const Columns<kQuads, kVector>& columns,
                                          const float* delta, int parts, int64_t part_stride) {
  constexpr int kGroups = kVector && kQuads <= 4 ? kQuads : 1;
#pragma unroll
  for (int first = 0; first < kQuads; first += kGroups) {
    float4 sum[kGroups] = {};
    int part = 0;
#pragma unroll 1
    for (; part + 4 <= parts; part += 4)
      add_batch<4>(sum, columns, delta + part * part_stride, part_stride, first);
    const float* rest = delta + part * part_stride;
    if (parts - part == 3) {
      add_batch<3>(sum, columns, rest, part_stride, first);
    } else if (parts - part == 2) {
      add_batch<2>(sum, columns, rest, part_stride, first);
    } else if (parts - part == 1) {
      add_batch<1>(sum, columns, rest, part_stride, first);
    }
#pragma unroll
    for (int i = 0; i < kGroups; ++i) x[first + i] = x[first + i] + sum[i];
  }
}

// The sum over the block, the same in every thread: lanes by a butterfly, then the warps by a tree
// that absent warps enter as zero.
__device__ __forceinline__ float block_sum(float value) {
  static_assert(kMaxWarps == 16, "four groups of four");
  __shared__ float4 sums[kMaxWarps / 4];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  auto* warps = reinterpret_cast<float*>(sums);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  if (threadIdx.x < kMaxWarps && threadIdx.x >= blockDim.x / 32) warps[threadIdx.x] = 0;
  __syncthreads();
  const float4 v = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  return (v.x + v.z) + (v.y + v.w);
}

// kFewRows: the weights are on their way while the kernel in front ends; else they come from L1,
// which the rows of an SM share. The bound on registers: all loads of a row in flight, or two
// rows an SM.
template <class T, int kQuads, bool kVector, bool kFewRows>
__global__ void __launch_bounds__(kMaxThreads, kFewRows || kQuads > 2 ? 1 : 2)
    add_rms_norm_kernel(const AddRmsNormParams p) {
  pdl_launch_dependents();
  const Columns<kQuads, kVector> columns{static_cast<int>(p.dim)};
  constexpr bool kKeepWeights = kQuads <= 4;  // where there are registers for them
  float4 weight[kKeepWeights ? kQuads : 1];
  const auto load_weights = [&] {
#pragma unroll
    for (int i = 0; i < (kKeepWeights ? kQuads : 0); ++i)
      weight[i] = columns.template load_constant<kFewRows>(p.weight, i);
  };
  if constexpr (kFewRows) load_weights();
  pdl_wait();
  if constexpr (!kFewRows) load_weights();

  int64_t row = blockIdx.x;
  if (p.rows != nullptr) {
    // A padded step may name any row: nobody reads its result, but what it reads must be ours.
    row = min(max(p.rows[blockIdx.x], 0), static_cast<int>(p.num_rows) - 1);
  }
  float* x_row = p.x + row * p.x_stride;
  float4 x[kQuads];
#pragma unroll
  for (int i = 0; i < kQuads; ++i) x[i] = columns.load(x_row, i);

  if (p.parts > 0) {
    if (p.delta_dtype == DType::kF32) {
      add_parts(x, columns, static_cast<const float*>(p.delta) + row * p.delta_stride, p.parts,
                p.part_stride);
    } else {
      const T* delta = static_cast<const T*>(p.delta) + row * p.delta_stride;
#pragma unroll
      for (int i = 0; i < kQuads; ++i) x[i] = x[i] + columns.load(delta, i);
    }
    if (p.rows == nullptr) {
#pragma unroll
      for (int i = 0; i < kQuads; ++i) columns.store(x_row, i, x[i]);
    }
  }

  float squares = 0;
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    if (!columns.has(i)) x[i] = {};
    squares = fmaf(x[i].x, x[i].x, squares);
    squares = fmaf(x[i].y, x[i].y, squares);
    squares = fmaf(x[i].z, x[i].z, squares);
    squares = fmaf(x[i].w, x[i].w, squares);
  }
  const float scale = rsqrtf(block_sum(squares) * p.inverse_dim + p.eps);

  T* y = static_cast<T*>(p.y);
  const int padded = static_cast<int>(num_k_tiles(p.dim)) * kTileK;
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const int column = columns.begin(i);
    if (column >= padded) continue;
    float4 w;
    if constexpr (kKeepWeights) {
      w = weight[i];
    } else {
      w = columns.template load_constant<false>(p.weight, i);
    }
    uint2 bits = {pack2<T>(x[i].x * scale * w.x, x[i].y * scale * w.y),
                  pack2<T>(x[i].z * scale * w.z, x[i].w * scale * w.w)};
    if (!columns.has(i)) bits = {};  // the tail is zero
    __stcg(reinterpret_cast<uint2*>(y + tiled_offset(blockIdx.x, column, p.count)), bits);
  }
}

template <class T, int kQuads, bool kVector, bool kFewRows>
void run(const AddRmsNormParams& params, const CudaExec& exec) {
  const int64_t quads = num_k_tiles(params.dim) * kTileK / 4;
  const int64_t threads = ((quads + kQuads - 1) / kQuads + 31) / 32 * 32;
  launch(add_rms_norm_kernel<T, kQuads, kVector, kFewRows>,
         dim3(static_cast<unsigned>(params.count)), dim3(static_cast<unsigned>(threads)), 0, exec,
         params);
}

template <class T>
void choose(const AddRmsNormParams& p, const CudaExec& exec) {
  const int64_t quads = num_k_tiles(p.dim) * kTileK / 4;
  const auto on_border = [](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  const bool vector = p.dim % 4 == 0 && p.x_stride % 4 == 0 && p.delta_stride % 4 == 0 &&
                      p.part_stride % 4 == 0 && on_border(p.x) && on_border(p.delta) &&
                      on_border(p.weight);
  static_assert(kAddRmsNormMaxDim <= 4 * 8 * kMaxThreads);
  if (!vector) return run<T, 8, false, false>(p, exec);
  if (quads > 4 * kMaxThreads) return run<T, 8, true, false>(p, exec);
  const bool few = p.count <= 128;
  if (quads > 2 * kMaxThreads)
    return few ? run<T, 4, true, true>(p, exec) : run<T, 4, true, false>(p, exec);
  if (quads > kMaxThreads)
    return few ? run<T, 2, true, true>(p, exec) : run<T, 2, true, false>(p, exec);
  few ? run<T, 1, true, true>(p, exec) : run<T, 1, true, false>(p, exec);
}

}  // namespace

void add_rms_norm(const AddRmsNormParams& params, const CudaExec& exec) {
  if (params.count == 0) return;
  params.y_dtype == DType::kF16 ? choose<__half>(params, exec)
                                : choose<__nv_bfloat16>(params, exec);
}

}  // namespace donar::ops::cuda
