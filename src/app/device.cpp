// See device.h.
#include "app/device.h"

#include <fmt/format.h>

#include "app/values.h"
#include "base/check.h"
#include "tensor/cuda_arch.h"

namespace donar::app {
namespace {

Result<Device> open_cuda([[maybe_unused]] int ordinal) {
  if constexpr (kCuda) {
    try {
      Result<CudaDevice> opened = open_cuda_device(ordinal);
      if (!opened) return forward_error(opened);
      Device device;
      device.cuda = std::move(*opened);
      return device;
    } catch (const CudaError& error) {
      return fail(ErrorCode::kUnavailable, "CUDA device {} does not open: {}", ordinal,
                  error.what());
    }
  }
  return fail(ErrorCode::kUnsupported, "this program was built without CUDA");
}

// The device that auto takes: whatever ordinal 0 answers where there is no better one.
int first_choice() {
  if constexpr (kCuda) {
    try {
      const Result<std::vector<CudaDevice>> devices = cuda_devices();
      if (devices) return choose_cuda_device(*devices, cuda_archs()).value_or(0);
    } catch (const CudaError&) {  // it will be said by whoever opens the device
    }
  }
  return 0;
}

}  // namespace

std::optional<int> choose_cuda_device(std::span<const CudaDevice> devices, std::string_view archs) {
  for (const CudaDevice& device : devices)
    if (has_cuda_code(archs, device.arch)) return device.ordinal;
  return std::nullopt;
}

std::string Device::description() const {
  return cuda ? fmt::format("{} (sm_{})", cuda->name, cuda->arch) : "the CPU";
}

Result<Device> open_device(std::string_view wanted) {
  if (wanted == "cpu") return Device{};
  if (wanted == "auto") {
    if constexpr (!kCuda) return Device{};
    Result<Device> device = open_cuda(first_choice());
    if (device) return device;
    Device cpu;
    cpu.is_fault = device.error().code != ErrorCode::kNotFound;
    cpu.note = fmt::format("running on the CPU: {}", device.error().message);
    return cpu;
  }
  int ordinal = 0;
  if (wanted != "cuda") {
    constexpr std::string_view kPrefix = "cuda:";
    const Result<int64_t> number =
        wanted.starts_with(kPrefix)
            ? parse_integer(std::string(wanted.substr(kPrefix.size())), 0, 1023)
            : fail(ErrorCode::kInvalidArgument, "");
    if (!number)
      return tl::unexpected<Error>(
          Error{ErrorCode::kInvalidArgument,
                fmt::format("\"{}\" is not one of auto, cpu, cuda, cuda:N", wanted), "--device"});
    ordinal = static_cast<int>(*number);
  }
  return open_cuda(ordinal);
}

std::string Memory::summary() const {
  if (!cuda) return host.summary();
  return fmt::format("{}; host: {}", cuda->summary(), host.summary());
}

engine::MemoryLimit cuda_memory_limit(const CudaDevice& device,
                                      const engine::EngineConfig& config) {
  if constexpr (kCuda) {
    // A driver that shares the host's memory calls the page cache taken.
    const uint64_t available =
        device.integrated ? available_host_memory() : cuda_memory().free_bytes;
    const double utilization = config.kv_cache_bytes > 0 ? 0.0 : config.gpu_memory_utilization;
    return engine::memory_limit(device.total_bytes, available, utilization);
  }
  DONAR_CHECK(false, "no CUDA device");
  return {};
}

}  // namespace donar::app
