// How kernels are launched and how they wait for each other. From sm_90 on a kernel starts while
// its predecessor still runs (programmatic dependent launch), so every kernel
//   1. calls pdl_launch_dependents() first,
//   2. calls pdl_wait() in every CTA before it reads or writes anything but weights and constants,
//      on every path: waiting is what makes "N is done" imply "N - 1 is done".
// Both are nothing on older devices, where the stream's order does it.
#pragma once

#include <cuda_runtime.h>

#include "tensor/cuda_exec.h"

namespace donar {
[[noreturn]] void throw_cuda_error(int code, const char* call);
}  // namespace donar

namespace donar::ops::cuda {

__device__ __forceinline__ void pdl_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void pdl_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Launches `kernel(args...)` on the exec's stream. Dynamic shared memory above 48 KB is asked for
// here. Throws CudaError.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, uint32_t shared_bytes,
            const CudaExec& exec, Args&&... args) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t code = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  static_cast<int>(shared_bytes));
    if (code != cudaSuccess) throw_cuda_error(code, "cudaFuncSetAttribute");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = exec.stream;
  config.attrs = &attribute;
  config.numAttrs = exec.arch >= 90 ? 1 : 0;
  const cudaError_t code = cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
  if (code != cudaSuccess) throw_cuda_error(code, "kernel launch");
}

}  // namespace donar::ops::cuda
