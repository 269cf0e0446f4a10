// y[i] = x[index[i]]: one block per row.
#include "ops/cuda/gather_rows.h"

#include <algorithm>

#include "ops/cuda/common/launch.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kMaxThreads = 512;

// Vector: float4 where rows lie on borders of 16 bytes, else float. dim is in vectors.
template <class Vector>
__global__ void __launch_bounds__(kMaxThreads)
    gather_rows_kernel(const GatherRowsParams p, int64_t dim) {
  pdl_launch_dependents();
  pdl_wait();
  // Padded entries may hold anything, but what they read must be ours.
  const int64_t row = min(max(p.index[blockIdx.x], 0), static_cast<int>(p.rows) - 1);
  const auto* from = reinterpret_cast<const Vector*>(p.x + row * p.x_stride);
  auto* to = reinterpret_cast<Vector*>(p.y + blockIdx.x * p.y_stride);
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) to[i] = from[i];
}

template <class Vector>
void run(const GatherRowsParams& params, const CudaExec& exec) {
  const int64_t dim = params.dim / static_cast<int64_t>(sizeof(Vector) / sizeof(float));
  const int64_t threads = std::min<int64_t>((dim + 31) / 32 * 32, kMaxThreads);
  launch(gather_rows_kernel<Vector>, dim3(static_cast<unsigned>(params.picked)),
         dim3(static_cast<unsigned>(threads)), 0, exec, params, dim);
}

}  // namespace

void gather_rows(const GatherRowsParams& params, const CudaExec& exec) {
  if (params.picked == 0) return;
  const bool vector = params.dim % 4 == 0 && params.x_stride % 4 == 0 && params.y_stride % 4 == 0 &&
                      reinterpret_cast<uintptr_t>(params.x) % 16 == 0 &&
                      reinterpret_cast<uintptr_t>(params.y) % 16 == 0;
  vector ? run<float4>(params, exec) : run<float>(params, exec);
}

}  // namespace donar::ops::cuda
