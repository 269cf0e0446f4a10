#include "tests/app/cuda_trap.h"

#include <cuda_runtime.h>

namespace donar::app {
namespace {

__global__ void trap_kernel() { asm volatile("trap;"); }

}  // namespace

void launch_trap() {
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return;
  trap_kernel<<<1, 1, 0, stream>>>();
}

}  // namespace donar::app
