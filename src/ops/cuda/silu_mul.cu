// y = silu(gate) * up as a k-tiled activation: a thread makes one 16-byte slot, 8 columns of a row.
#include "ops/cuda/silu_mul.h"

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/tiled.h"
#include "ops/cuda/common/values16.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 8;  // of a thread

__device__ __forceinline__ float silu(float z) { return z / (1.0f + __expf(-z)); }

// 8 values that lie on a border of 16 bytes.
template <class T>
__device__ __forceinline__ void load8(const T* from, float (&v)[kColumns]) {
  if constexpr (sizeof(T) == 4) {
    const float4 a = reinterpret_cast<const float4*>(from)[0];
    const float4 b = reinterpret_cast<const float4*>(from)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  } else {
    const uint4 slot = *reinterpret_cast<const uint4*>(from);
    const uint32_t bits[4] = {slot.x, slot.y, slot.z, slot.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack2<T>(bits[i]);
      v[2 * i] = pair.x;
      v[2 * i + 1] = pair.y;
    }
  }
}

// T: of y; In: of gate_up. Grid: (rows, slots / kThreads).
template <class T, class In>
__global__ void __launch_bounds__(kThreads) silu_mul_kernel(const SiluMulParams p, bool vector) {
  pdl_launch_dependents();
  pdl_wait();
  const int64_t column = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kColumns;
  if (column >= num_k_tiles(p.dim) * kTileK) return;
  const int64_t row = blockIdx.x;
  const In* gate_row = static_cast<const In*>(p.gate_up) + row * p.stride;
  const In* up_row = gate_row + p.dim;
  float gate[kColumns], up[kColumns];
  if (vector && column + kColumns <= p.dim) {
    load8(gate_row + column, gate);
    load8(up_row + column, up);
  } else {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const bool inside = column + i < p.dim;
      gate[i] = inside ? to_float(gate_row[column + i]) : 0.0f;
      up[i] = inside ? to_float(up_row[column + i]) : 0.0f;  // silu(0) * 0: the tail is zero
    }
  }
  uint4 slot;
  slot.x = pack2<T>(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
  slot.y = pack2<T>(silu(gate[2]) * up[2], silu(gate[3]) * up[3]);
  slot.z = pack2<T>(silu(gate[4]) * up[4], silu(gate[5]) * up[5]);
  slot.w = pack2<T>(silu(gate[6]) * up[6], silu(gate[7]) * up[7]);
  __stcg(reinterpret_cast<uint4*>(static_cast<T*>(p.y) + tiled_offset(row, column, p.rows)), slot);
}

template <class T, class In>
void run(const SiluMulParams& params, const CudaExec& exec) {
  const bool vector = params.dim % kColumns == 0 && params.stride % kColumns == 0 &&
                      reinterpret_cast<uintptr_t>(params.gate_up) % 16 == 0;
  const int64_t slots = num_k_tiles(params.dim) * kTileK / kColumns;
  const dim3 grid(static_cast<unsigned>(params.rows),
                  static_cast<unsigned>((slots + kThreads - 1) / kThreads));
  launch(silu_mul_kernel<T, In>, grid, dim3(kThreads), 0, exec, params, vector);
}

template <class T>
void choose(const SiluMulParams& params, const CudaExec& exec) {
  params.gate_up_dtype == DType::kF32 ? run<T, float>(params, exec) : run<T, T>(params, exec);
}

}  // namespace

void silu_mul(const SiluMulParams& params, const CudaExec& exec) {
  if (params.rows == 0) return;
  params.y_dtype == DType::kF16 ? choose<__half>(params, exec)
                                : choose<__nv_bfloat16>(params, exec);
}

}  // namespace donar::ops::cuda
