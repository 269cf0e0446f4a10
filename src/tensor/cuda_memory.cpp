#include "tensor/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <cstring>

namespace donar {
namespace {

Result<void*> outcome(cudaError_t code, void* data) {
  if (code == cudaSuccess) return data;
  cudaGetLastError();  // running out of memory is no lasting error: the next call begins clean
  return fail(ErrorCode::kResourceExhausted, "{}", cudaGetErrorString(code));
}

}  // namespace

Result<void*> cuda_allocate(uint64_t bytes) {
  void* data = nullptr;
  if (const cudaError_t code = cudaMalloc(&data, bytes); code != cudaSuccess)
    return outcome(code, nullptr);
  // The null stream waits for nothing that matters here, but other streams must not overtake it.
  cudaError_t code = cudaMemset(data, 0, bytes);
  if (code == cudaSuccess) code = cudaStreamSynchronize(nullptr);
  if (code != cudaSuccess) cudaFree(data);
  return outcome(code, data);
}

Result<void*> cuda_allocate_pinned(uint64_t bytes) {
  void* data = nullptr;
  const cudaError_t code = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
  if (code == cudaSuccess) std::memset(data, 0, bytes);
  return outcome(code, data);
}

// A device that failed answers every call with its error; the context frees what is left.
void cuda_free(void* data) { cudaFree(data); }
void cuda_free_pinned(void* data) { cudaFreeHost(data); }

}  // namespace donar
