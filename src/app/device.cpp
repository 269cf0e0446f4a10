// See device.h.
#include "app/device.h"

#include <fmt/format.h>

#include "app/values.h"
#include "base/check.h"

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

}  // namespace

std::string Device::description() const {
  return cuda ? fmt::format("{} (sm_{})", cuda->name, cuda->arch) : "the CPU";
}

Result<Device> open_device(std::string_view wanted) {
  if (wanted == "cpu") return Device{};
  if (wanted == "auto") {
    if constexpr (!kCuda) return Device{};
    Result<Device> device = open_cuda(0);
    if (device) return device;
    Device cpu;
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
