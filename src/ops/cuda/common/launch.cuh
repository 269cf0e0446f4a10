// How kernels are launched and how they wait for each other. From sm_90 on a kernel starts while
// its predecessor still runs (programmatic dependent launch), so every kernel
//   1. calls pdl_launch_dependents() first,
//   2. calls pdl_wait() in every CTA before it reads or writes anything but weights and constants,
//      on every path: waiting is what makes "N is done" imply "N - 1 is done".
// Both are nothing on older devices, where the stream's order does it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <mutex>

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

// Launches `kernel(args...)` on the exec's stream, with up to 48 KB of dynamic shared memory.
// Throws CudaError.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, uint32_t shared_bytes,
            const CudaExec& exec, Args&&... args) {
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

// Dynamic shared memory that kKernel may have by now, per device.
inline constexpr size_t kMaxDevices = 64;
template <auto kKernel>
std::array<std::atomic<uint32_t>, kMaxDevices>& shared_limits() {
  static std::array<std::atomic<uint32_t>, kMaxDevices> limits;
  return limits;
}

inline void raise_shared_limit(const void* kernel, uint32_t bytes, std::atomic<uint32_t>& limit) {
  static std::mutex mutex;  // a limit never falls
  const std::lock_guard lock(mutex);
  if (bytes <= limit.load(std::memory_order_relaxed)) return;
  const cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                static_cast<int>(bytes));
  if (code != cudaSuccess) throw_cuda_error(code, "cudaFuncSetAttribute");
  limit.store(bytes, std::memory_order_release);
}

// The same with any amount of dynamic shared memory. What is above 48 KB is asked for once for a
// kernel and device, not with every launch.
template <auto kKernel, class... Args>
void launch(dim3 grid, dim3 block, uint32_t shared_bytes, const CudaExec& exec, Args&&... args) {
  if (shared_bytes > 48 * 1024) {
    const auto ordinal = static_cast<size_t>(exec.ordinal);
    std::atomic<uint32_t> unknown{0};
    auto& limit = ordinal < kMaxDevices ? shared_limits<kKernel>()[ordinal] : unknown;
    if (shared_bytes > limit.load(std::memory_order_acquire))
      raise_shared_limit(reinterpret_cast<const void*>(kKernel), shared_bytes, limit);
  }
  launch(kKernel, grid, block, shared_bytes, exec, static_cast<Args&&>(args)...);
}

}  // namespace donar::ops::cuda
