#include "app/cuda_bandwidth.h"
#include "ops/cuda/common/launch.cuh"

namespace donar::app::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kDepth = 8;  // loads of one thread in flight: 64 KB of a block

__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  ops::cuda::pdl_launch_dependents();
  ops::cuda::pdl_wait();
  uint32_t mixed = 0;
  constexpr int64_t kStripe = int64_t{kThreads} * kDepth;
  for (int64_t begin = blockIdx.x * kStripe; begin < count; begin += gridDim.x * kStripe) {
    uint4 values[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int64_t at = begin + int64_t{i} * kThreads + threadIdx.x;
      values[i] = at < count ? __ldcs(data + at) : uint4{};
    }
#pragma unroll
    for (int i = 0; i < kDepth; ++i) mixed ^= values[i].x ^ values[i].y ^ values[i].z ^ values[i].w;
  }
  // Never true of zeros, which the compiler does not know.
  if (mixed == 0x9e3779b9u) *sink = mixed;
}

}  // namespace

void read_once(const void* data, uint64_t bytes, uint32_t* sink, const CudaExec& exec) {
  ops::cuda::launch(read_kernel, dim3(static_cast<unsigned>(exec.num_sms) * 2), dim3(kThreads), 0,
                    exec, static_cast<const uint4*>(data), static_cast<int64_t>(bytes / 16), sink);
}

}  // namespace donar::app::cuda
