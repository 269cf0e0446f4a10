// The NVIDIA driver as its own libraries describe it. They are loaded at run time, by the few
// declarations that are needed of them, so that this works in every build and on every machine.
#include <fmt/format.h>

#include "app/checkup/dynamic_library.h"
#include "app/checkup/probe.h"

namespace donar::app::checkup {
namespace {

// Of cuda.h.
using CuContext = struct CuContextOpaque*;
constexpr int kMultiprocessors = 16, kIntegrated = 18, kL2Bytes = 38, kMajor = 75, kMinor = 76;

// Of nvml.h.
using NvmlDevice = struct NvmlDeviceOpaque*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
constexpr int kGpuSensor = 0;

// What NVML adds to a device. Absent on some integrated GPUs.
class Nvml {
 public:
  Nvml() : library_({"libnvidia-ml.so.1"}) {
    const auto init = library_.find<int()>("nvmlInit_v2");
    ready_ = init != nullptr && init() == 0;
  }
  ~Nvml() {
    if (const auto shutdown = library_.find<int()>("nvmlShutdown"); ready_ && shutdown != nullptr)
      shutdown();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::string driver_version() const {
    char text[96] = {};
    const auto get = library_.find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
    return ready_ && get != nullptr && get(text, sizeof text) == 0 ? text : std::string();
  }

  void describe(const char* pci_bus_id, GpuFacts& gpu) const {
    NvmlDevice device = nullptr;
    const auto handle =
        library_.find<int(const char*, NvmlDevice*)>("nvmlDeviceGetHandleByPciBusId_v2");
    if (!ready_ || handle == nullptr || handle(pci_bus_id, &device) != 0) return;
    gpu.watts = milliwatts("nvmlDeviceGetPowerUsage", device);
    gpu.watts_limit = milliwatts("nvmlDeviceGetEnforcedPowerLimit", device);
    unsigned degrees = 0;
    const auto temperature =
        library_.find<int(NvmlDevice, int, unsigned*)>("nvmlDeviceGetTemperature");
    if (temperature != nullptr && temperature(device, kGpuSensor, &degrees) == 0)
      gpu.celsius = degrees;
    int mode = 1;
    const auto persistence = library_.find<int(NvmlDevice, int*)>("nvmlDeviceGetPersistenceMode");
    if (persistence != nullptr && persistence(device, &mode) == 0) gpu.persistent = mode != 0;
    NvmlMemory memory{};
    const auto get = library_.find<int(NvmlDevice, NvmlMemory*)>("nvmlDeviceGetMemoryInfo");
    if (get != nullptr && get(device, &memory) == 0) gpu.free_bytes = memory.free;
  }

 private:
  std::optional<double> milliwatts(const char* name, NvmlDevice device) const {
    unsigned value = 0;
    const auto get = library_.find<int(NvmlDevice, unsigned*)>(name);
    if (get == nullptr || get(device, &value) != 0) return std::nullopt;
    return value / 1000.0;
  }

  DynamicLibrary library_;
  bool ready_ = false;
};

// A context shows whether programs can use the device at all. Without NVML it also tells what is
// free, less what the context itself takes.
void open_device(const DynamicLibrary& cuda, int device, GpuFacts& gpu) {
  const auto retain = cuda.find<int(CuContext*, int)>("cuDevicePrimaryCtxRetain");
  const auto release = cuda.find<int(int)>("cuDevicePrimaryCtxRelease_v2");
  const auto make_current = cuda.find<int(CuContext)>("cuCtxSetCurrent");
  const auto memory = cuda.find<int(size_t*, size_t*)>("cuMemGetInfo_v2");
  if (retain == nullptr || release == nullptr || make_current == nullptr || memory == nullptr)
    return;
  CuContext context = nullptr;
  gpu.open_code = retain(&context, device);
  if (gpu.open_code != 0) return;
  size_t free_bytes = 0, total_bytes = 0;
  if (gpu.free_bytes == 0 && make_current(context) == 0 && memory(&free_bytes, &total_bytes) == 0)
    gpu.free_bytes = free_bytes;
  make_current(nullptr);
  release(device);
}

GpuFacts describe(const DynamicLibrary& cuda, const Nvml& nvml, int ordinal) {
  GpuFacts gpu;
  int device = ordinal;
  if (const auto get = cuda.find<int(int*, int)>("cuDeviceGet"); get != nullptr)
    get(&device, ordinal);
  char text[256] = {};
  if (const auto name = cuda.find<int(char*, int, int)>("cuDeviceGetName"); name != nullptr)
    name(text, sizeof text, device);
  gpu.name = text;
  const auto attribute = [&](int which) {
    int value = 0;
    const auto get = cuda.find<int(int*, int, int)>("cuDeviceGetAttribute");
    return get != nullptr && get(&value, which, device) == 0 ? value : 0;
  };
  gpu.capability = attribute(kMajor) * 10 + attribute(kMinor);
  gpu.num_sms = attribute(kMultiprocessors);
  gpu.l2_bytes = static_cast<uint64_t>(attribute(kL2Bytes));
  gpu.integrated = attribute(kIntegrated) != 0;
  size_t total = 0;
  if (const auto get = cuda.find<int(size_t*, int)>("cuDeviceTotalMem_v2"); get != nullptr)
    get(&total, device);
  gpu.total_bytes = total;
  char bus[32] = {};
  const auto bus_id = cuda.find<int(char*, int, int)>("cuDeviceGetPCIBusId");
  if (bus_id != nullptr && bus_id(bus, sizeof bus, device) == 0) nvml.describe(bus, gpu);
  open_device(cuda, device, gpu);
  return gpu;
}

Library optional_library(std::string name, std::initializer_list<const char*> files,
                         std::string (*version)(const DynamicLibrary&)) {
  const DynamicLibrary library(files);
  if (!library.is_there()) return {std::move(name), {}, library.error()};
  return {std::move(name), version(library), {}};
}

}  // namespace

void probe_driver(uint64_t host_available_bytes, DriverFacts& driver) {
  const DynamicLibrary cuda({"libcuda.so.1"});
  if (!cuda.is_there()) {
    driver.load_error = cuda.error();
    return;
  }
  const auto init = cuda.find<int(unsigned)>("cuInit");
  const auto version = cuda.find<int(int*)>("cuDriverGetVersion");
  const auto count = cuda.find<int(int*)>("cuDeviceGetCount");
  if (init == nullptr || version == nullptr || count == nullptr) {
    driver.load_error = "it lacks cuInit";
    return;
  }
  const Nvml nvml;
  driver.version = nvml.driver_version();
  version(&driver.cuda_version);
  driver.init_code = init(0);
  int num_devices = 0;
  if (driver.init_code != 0 || count(&num_devices) != 0) return;
  for (int i = 0; i < num_devices; ++i) {
    GpuFacts gpu = describe(cuda, nvml, i);
    gpu.available_bytes = gpu.integrated ? host_available_bytes : gpu.free_bytes;
    driver.gpus.push_back(std::move(gpu));
  }
}

std::vector<Library> probe_libraries() {
  std::vector<Library> out;
  out.push_back(optional_library(
      "cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12"}, [](const DynamicLibrary& library) {
        const auto get = library.find<size_t()>("cublasLtGetVersion");
        const size_t version = get != nullptr ? get() : 0;
        return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
      }));
  out.push_back(optional_library("NCCL", {"libnccl.so.2"}, [](const DynamicLibrary& library) {
    int version = 0;
    const auto get = library.find<int(int*)>("ncclGetVersion");
    if (get != nullptr) get(&version);
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }));
  return out;
}

}  // namespace donar::app::checkup
