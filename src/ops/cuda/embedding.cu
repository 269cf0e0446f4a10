// y[i] = float(table[id]): one block per row, a thread per 8 columns, which are one 16-byte slot of
// a k-tiled table.
#include "ops/cuda/embedding.h"

#include <algorithm>

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/tiled.h"
#include "ops/cuda/common/values16.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kColumns = 8;  // of a thread

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    embedding_kernel(const EmbeddingParams p, bool vector) {
  pdl_launch_dependents();
  pdl_wait();
  int id = p.ids[blockIdx.x];
  // Padded rows of a step may hold anything: nobody reads what they give, but what they read must
  // be ours. The host checked the ids of requests.
  if (id < 0) id = p.num_previous > 0 ? p.previous[min(-1 - id, p.num_previous - 1)] : 0;
  const int64_t row = min(max(id, 0), static_cast<int>(p.vocab) - 1);
  float* y = p.y + blockIdx.x * p.y_stride;
  const T* table = static_cast<const T*>(p.table);

  for (int64_t column = threadIdx.x * kColumns; column < p.dim;
       column += int64_t{kColumns} * blockDim.x) {
    float v[kColumns];
    if (p.tile_rows > 0) {
      if constexpr (sizeof(T) == 2) {
        const uint4 slot = __ldg(reinterpret_cast<const uint4*>(
            table + tiled_weight_offset(row, column, p.dim, p.tile_rows)));
        const uint32_t bits[4] = {slot.x, slot.y, slot.z, slot.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = unpack2<T>(bits[i]);
          v[2 * i] = pair.x;
          v[2 * i + 1] = pair.y;
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; ++i)
        v[i] = column + i < p.dim ? to_float(__ldg(table + row * p.dim + column + i)) : 0.0f;
    }
    if (vector && column + kColumns <= p.dim) {
      reinterpret_cast<float4*>(y + column)[0] = {v[0], v[1], v[2], v[3]};
      reinterpret_cast<float4*>(y + column)[1] = {v[4], v[5], v[6], v[7]};
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        if (column + i < p.dim) y[column + i] = v[i];
      }
    }
  }
}

template <class T>
void run(const EmbeddingParams& params, const CudaExec& exec) {
  const bool vector = params.y_stride % 4 == 0 && reinterpret_cast<uintptr_t>(params.y) % 16 == 0;
  const int64_t slots = (params.dim + kColumns - 1) / kColumns;
  const int64_t threads = std::min<int64_t>((slots + 31) / 32 * 32, kMaxThreads);
  launch(embedding_kernel<T>, dim3(static_cast<unsigned>(params.rows)),
         dim3(static_cast<unsigned>(threads)), 0, exec, params, vector);
}

}  // namespace

void embedding(const EmbeddingParams& params, const CudaExec& exec) {
  if (params.rows == 0) return;
  switch (params.table_dtype) {
    case DType::kF16:
      return run<__half>(params, exec);
    case DType::kF32:
      return run<float>(params, exec);
    default:
      return run<__nv_bfloat16>(params, exec);
  }
}

}  // namespace donar::ops::cuda
