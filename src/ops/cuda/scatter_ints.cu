// One thread an entry; entries may lie in pinned host memory, so each is read once, whole.
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/scatter_ints.h"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocks = 1024;

__global__ void __launch_bounds__(kThreads) scatter_ints_kernel(const ScatterIntsParams params) {
  pdl_launch_dependents();
  pdl_wait();
  const auto* entries = reinterpret_cast<const int4*>(params.entries);
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < params.count; i += step) {
    const int4 entry = entries[i];
    const int64_t index = (int64_t{entry.y} << 32) | static_cast<uint32_t>(entry.x);
    params.table[index] = entry.z;
  }
}

}  // namespace

void scatter_ints(const ScatterIntsParams& params, const CudaExec& exec) {
  const int64_t blocks = (params.count + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
  launch(scatter_ints_kernel, dim3(grid), dim3(kThreads), 0, exec, params);
}

}  // namespace donar::ops::cuda
