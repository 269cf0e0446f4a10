// The CUDA run time behind tensor/cuda.h.
#include "tensor/cuda.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <utility>

#include "tensor/cuda_arch.h"

namespace donar {
namespace {

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw_cuda_error(code, call);
}

CudaDevice describe(int ordinal) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  CudaDevice device;
  device.ordinal = ordinal;
  device.name = properties.name;
  device.arch = properties.major * 10 + properties.minor;
  device.num_sms = properties.multiProcessorCount;
  device.shared_bytes_per_block = properties.sharedMemPerBlockOptin;
  device.l2_bytes = static_cast<uint64_t>(properties.l2CacheSize);
  device.total_bytes = properties.totalGlobalMem;
  device.integrated = properties.integrated != 0;
  return device;
}

// The run time calls a missing driver one of too old a version.
bool is_driver_missing(cudaError_t code) {
  int driver = 0;
  return code == cudaErrorInsufficientDriver &&
         (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0);
}

std::string driver_fault(cudaError_t code) {
  int driver = 0, needed = 0;
  if (code != cudaErrorInsufficientDriver) return cudaGetErrorString(code);
  if (cudaDriverGetVersion(&driver) != cudaSuccess) return cudaGetErrorString(code);
  if (cudaRuntimeGetVersion(&needed) != cudaSuccess) return cudaGetErrorString(code);
  return fmt::format("it is for CUDA {}.{}, and this program needs {}.{}: update the driver",
                     driver / 1000, driver % 1000 / 10, needed / 1000, needed % 1000 / 10);
}

}  // namespace

void throw_cuda_error(int code, const char* call) {
  const auto error = static_cast<cudaError_t>(code);
  throw CudaError(
      fmt::format("{}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error)));
}

Result<std::vector<CudaDevice>> cuda_devices() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice) return std::vector<CudaDevice>{};
  if (is_driver_missing(code)) return fail(ErrorCode::kNotFound, "no NVIDIA driver is installed");
  if (code != cudaSuccess)
    return fail(ErrorCode::kUnavailable, "no usable NVIDIA driver: {}", driver_fault(code));
  std::vector<CudaDevice> devices;
  for (int i = 0; i < count; ++i) devices.push_back(describe(i));
  return devices;
}

Result<CudaDevice> open_cuda_device(int ordinal) {
  Result<std::vector<CudaDevice>> devices = cuda_devices();
  if (!devices) return forward_error(devices);
  if (devices->empty()) return fail(ErrorCode::kNotFound, "there is no CUDA device");
  const auto index = static_cast<size_t>(ordinal);
  if (ordinal < 0 || index >= devices->size())
    return fail(ErrorCode::kNotFound, "there is no CUDA device {}: it is one of 0 to {}", ordinal,
                devices->size() - 1);
  CudaDevice device = (*devices)[index];
  if (!has_cuda_code(cuda_archs(), device.arch))
    return fail(ErrorCode::kUnsupported, "{}",
                missing_cuda_code(fmt::format("CUDA device {} ({})", ordinal, device.name),
                                  device.arch, cuda_archs()));
  if (const cudaError_t code =
          cudaInitDevice(ordinal, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid);
      code != cudaSuccess)
    return fail(ErrorCode::kUnavailable, "CUDA device {} ({}) does not open: {}", ordinal,
                device.name, cudaGetErrorString(code));
  use_cuda_device(ordinal);
  return device;
}

void use_cuda_device(int ordinal) { check(cudaSetDevice(ordinal), "cudaSetDevice"); }

CudaMemory cuda_memory() {
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return {free_bytes, total_bytes};
}

CudaStream CudaStream::create(const CudaDevice& device) {
  CudaStream stream;
  stream.exec_ = std::make_unique<CudaExec>();
  check(cudaStreamCreateWithFlags(&stream.exec_->stream, cudaStreamNonBlocking),
        "cudaStreamCreateWithFlags");
  stream.exec_->ordinal = device.ordinal;
  stream.exec_->arch = device.arch;
  stream.exec_->num_sms = device.num_sms;
  stream.exec_->shared_bytes_per_block = device.shared_bytes_per_block;
  return stream;
}

CudaStream::CudaStream(CudaStream&&) noexcept = default;

CudaStream& CudaStream::operator=(CudaStream&& other) noexcept {
  std::swap(exec_, other.exec_);
  return *this;
}

CudaStream::~CudaStream() {
  if (!exec_) return;
  // A broken device answers with its error again; it was reported where it happened.
  cudaStreamSynchronize(exec_->stream);
  cudaStreamDestroy(exec_->stream);
}

void CudaStream::wait() const { cuda_wait(exec_->stream); }

void cuda_wait(CudaStreamHandle stream) {
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

void cuda_copy(void* to, const void* from, uint64_t bytes, CudaStreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
}

void cuda_fill_zero(void* data, uint64_t bytes, CudaStreamHandle stream) {
  check(cudaMemsetAsync(data, 0, bytes, stream), "cudaMemsetAsync");
}

}  // namespace donar
