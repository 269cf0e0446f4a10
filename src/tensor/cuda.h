// CUDA devices as the rest of the program sees them. Everything here but kCuda exists only in a
// build with CUDA: call it under `if constexpr (kCuda)`.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/cuda_exec.h"

namespace donar {

inline constexpr bool kCuda = DONAR_CUDA != 0;

// A CUDA call or kernel failed. Nothing on the device can be trusted after it: whoever catches it
// ends something whole (a load, the engine).
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct CudaDevice {
  int ordinal = 0;
  std::string name;
  int arch = 0;  // compute capability: 87, 90, 110, 121
  int num_sms = 0;
  uint64_t shared_bytes_per_block = 0;  // with the opt-in
  uint64_t l2_bytes = 0;
  uint64_t total_bytes = 0;
  bool integrated = false;  // shares the host's memory
};

// Devices that the driver shows. kNotFound: no driver is installed; kUnavailable with the driver's
// words: it is of no use.
Result<std::vector<CudaDevice>> cuda_devices();

// Makes `ordinal` the device of the calling thread and creates its context (100-300 ms the first
// time). kNotFound names the devices that exist; kUnsupported: this binary has no code for it.
Result<CudaDevice> open_cuda_device(int ordinal);
// Other threads that call CUDA begin with this.
void use_cuda_device(int ordinal);

struct CudaMemory {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
CudaMemory cuda_memory();  // of the calling thread's device

// A stream with its exec. Move-only; waits for its work before it goes.
class CudaStream {
 public:
  static CudaStream create(const CudaDevice& device);
  CudaStream(CudaStream&&) noexcept;
  CudaStream& operator=(CudaStream&&) noexcept;
  ~CudaStream();

  const CudaExec& exec() const { return *exec_; }
  CudaStreamHandle handle() const { return exec_->stream; }
  void wait() const;  // throws CudaError for whatever went wrong in the stream

 private:
  CudaStream() = default;
  std::unique_ptr<CudaExec> exec_;  // on the heap: Exec keeps its address
};

// Copies in stream order; host memory should be pinned. Throw CudaError.
void cuda_copy(void* to, const void* from, uint64_t bytes, CudaStreamHandle stream);
void cuda_wait(CudaStreamHandle stream);
void cuda_fill_zero(void* data, uint64_t bytes, CudaStreamHandle stream);

// Names the call that failed and what the driver says.
[[noreturn]] void throw_cuda_error(int code, const char* call);

}  // namespace donar
