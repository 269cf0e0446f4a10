// x += sum of delta's parts; y = x * rsqrt(mean(x^2) + eps) * weight. A row stays in the registers
// of one block, or of a cluster of four where there are few rows: one SM takes as long to fetch a
// row and its parts from L2 as everything else together. Squares are added up by runs of 128
// columns, the runs by a tree that dim alone decides, so a row's bits depend on neither the rows
// beside it nor on who computed it.
#include "ops/cuda/add_rms_norm.h"

#include <algorithm>

#include "ops/cuda/common/cluster.cuh"
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/mbarrier.cuh"
#include "ops/cuda/common/tiled.h"
#include "ops/cuda/common/values16.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kMaxRuns = kAddRmsNormMaxDim / 128;  // a warp's 32 groups of 4 columns each
constexpr int kClusterCtas = 4;

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// A thread has kQuads groups of 4 columns; group i is number first + threadIdx.x + i * blockDim.x
// of the row. kVector: rows lie on borders of 16 bytes (8 for 16-bit types) and dim is a multiple
// of 4. Then a thread loads without a condition, so that all its loads are in flight at once:
// columns beyond the row are read from its end and taken for zero.
template <int kQuads, bool kVector>
struct Columns {
  int dim;
  int first;  // group: 0, or where this CTA of a cluster begins

  __device__ __forceinline__ int group(int i) const {
    return first + static_cast<int>(threadIdx.x + i * blockDim.x);
  }
  __device__ __forceinline__ int begin(int i) const { return 4 * group(i); }
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

// How the CTAs of a cluster share their sums: a store into every CTA's memory that counts at its
// barrier. (A barrier of the cluster that orders stores is a fence of device memory too, and would
// wait for x.)
#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void cluster_store(float* to, uint32_t barrier, uint32_t rank,
                                              float value) {
  asm volatile(
      "{\n.reg .b32 address, remote;\n"
      "mapa.shared::cluster.u32 address, %0, %2;\nmapa.shared::cluster.u32 remote, %1, %2;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [address], %3, [remote];\n"
      "}\n" ::"r"(shared_address(to)),
      "r"(barrier), "r"(rank), "r"(__float_as_uint(value))
      : "memory");
}
#endif

// A run: the 128 columns of a warp. Sums of squares by run, of the whole row in every CTA.
struct RunSums {
  float4 runs[kMaxRuns / 4];
  uint64_t arrived;  // mbarrier of a cluster: all runs are here

  __device__ __forceinline__ float* run(int i) { return reinterpret_cast<float*>(runs) + i; }
};

// Run by run a butterfly over the warp, then the runs in the order of one more: lane l would add
// runs l, l + 32, ..., and the lanes meet as before.
template <int kQuads, bool kVector, int kCtas>
__device__ __forceinline__ float row_sum(RunSums& sums, float (&squares)[kQuads],
                                         const Columns<kQuads, kVector>& columns, int num_runs) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) squares[i] += __shfl_xor_sync(0xffffffffu, squares[i], step);
  }
  const int padded_runs = (num_runs + 31) / 32 * 32;
  const int lane = threadIdx.x % 32;
  if (threadIdx.x < 32 && num_runs + lane < padded_runs) *sums.run(num_runs + lane) = 0;
  if constexpr (kCtas > 1) {
#if __CUDA_ARCH__ >= 900
    cluster_wait_started();
    const uint32_t barrier = shared_address(&sums.arrived);
    if (threadIdx.x == 0) mbarrier_arrive_expect_tx(barrier, num_runs * sizeof(float));
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      if (lane < kCtas) cluster_store(sums.run(columns.group(i) / 32), barrier, lane, squares[i]);
    }
    __syncthreads();  // the zeros behind the runs
    mbarrier_wait(barrier, 0);
#endif
  } else {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      const int run = columns.group(i) / 32;
      if (lane == 0 && run < num_runs) *sums.run(run) = squares[i];
    }
    __syncthreads();
  }
  float4 sum[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) sum[j] = sums.runs[j];
#pragma unroll 1
  for (int base = 8; base < padded_runs / 4; base += 8) {
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] = sum[j] + sums.runs[base + j];
  }
  const float4 v =
      ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
  return (v.x + v.z) + (v.y + v.w);
}

// kFewRows: the weights are on their way while the kernel in front ends; else they come from L1,
// which the rows of an SM share. The bound on registers: all loads of a row in flight, or two
// rows an SM.
template <class T, int kQuads, bool kVector, bool kFewRows, int kCtas>
__device__ __forceinline__ void norm_row(const AddRmsNormParams& p) {
  pdl_launch_dependents();
  __shared__ RunSums sums;
  if constexpr (kCtas > 1) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
      mbarrier_init(shared_address(&sums.arrived), 1);
      cluster_fence_mbarrier_init();
    }
    cluster_arrive_started();
#endif
  }
  const int64_t y_row = blockIdx.x / kCtas;
  const Columns<kQuads, kVector> columns{
      static_cast<int>(p.dim), static_cast<int>(blockIdx.x % kCtas * kQuads * blockDim.x)};
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

  int64_t row = y_row;
  if (p.rows != nullptr) {
    // A padded step may name any row: nobody reads its result, but what it reads must be ours.
    row = min(max(p.rows[y_row], 0), static_cast<int>(p.num_rows) - 1);
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

  float squares[kQuads];
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    if (!columns.has(i)) x[i] = {};
    squares[i] = x[i].x * x[i].x;
    squares[i] = fmaf(x[i].y, x[i].y, squares[i]);
    squares[i] = fmaf(x[i].z, x[i].z, squares[i]);
    squares[i] = fmaf(x[i].w, x[i].w, squares[i]);
  }
  const int padded = static_cast<int>(num_k_tiles(p.dim)) * kTileK;
  const float sum = row_sum<kQuads, kVector, kCtas>(sums, squares, columns, (padded + 127) / 128);
  const float scale = rsqrtf(sum * p.inverse_dim + p.eps);

  T* y = static_cast<T*>(p.y);
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
    __stcg(reinterpret_cast<uint2*>(y + tiled_offset(y_row, column, p.count)), bits);
  }
}

template <class T, int kQuads, bool kVector, bool kFewRows>
__global__ void __launch_bounds__(kMaxThreads, kFewRows || kQuads > 2 ? 1 : 2)
    add_rms_norm_kernel(const AddRmsNormParams p) {
  norm_row<T, kQuads, kVector, kFewRows, /*kCtas=*/1>(p);
}

template <class T>
__global__ void DONAR_CLUSTER(kClusterCtas) __launch_bounds__(kMaxThreads, 1)
    add_rms_norm_cluster_kernel(const AddRmsNormParams p) {
#if __CUDA_ARCH__ >= 900
  norm_row<T, /*kQuads=*/1, /*kVector=*/true, /*kFewRows=*/true, kClusterCtas>(p);
#endif
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
  // All CTAs of all rows at once, a whole number of warps' columns each.
  const bool cluster = exec.arch == 90 && p.dim >= 2048 &&
                       p.dim <= 4 * kClusterCtas * kMaxThreads &&
                       p.dim % (128 * kClusterCtas) == 0 && p.count * kClusterCtas <= exec.num_sms;
  if (cluster && !p.one_block_per_row) {
    launch(add_rms_norm_cluster_kernel<T>, dim3(static_cast<unsigned>(p.count * kClusterCtas)),
           dim3(static_cast<unsigned>(quads / kClusterCtas)), 0, exec, p);
    return;
  }
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
