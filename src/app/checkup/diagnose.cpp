#include "app/checkup/diagnose.h"

#include <fmt/format.h>

#include <charconv>

#include "tensor/cuda_arch.h"

namespace donar::app::checkup {
namespace {

// Codes of the driver (CUresult) that say more than "it failed".
constexpr int kOutOfMemory = 2, kUnavailable = 46, kNoDevice = 100, kNotReady = 802,
              kMismatch = 803, kCompatNotSupported = 804, kUnknown = 999;

constexpr std::string_view kContainerAdvice =
    "start it with `--gpus all` (Docker with NVIDIA's container toolkit), `--device "
    "nvidia.com/gpu=all` (Podman), or `--runtime nvidia` (Jetson)";

int major_of(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

std::string cuda_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

class Diagnosis {
 public:
  explicit Diagnosis(const Facts& facts) : facts_(facts), driver_(facts.driver) {}

  std::vector<Finding> take() {
    if (!driver_.has_hardware() && driver_.gpus.empty()) {
      note("No NVIDIA GPU is seen here: models run on the CPU.");
    } else if (driver_works()) {
      for (size_t i = 0; i < driver_.gpus.size(); ++i) judge(i, driver_.gpus[i]);
      judge_program();
    }
    return std::move(findings_);
  }

 private:
  void note(std::string text) { findings_.push_back({false, std::move(text)}); }
  bool problem(std::string text) {
    findings_.push_back({true, std::move(text)});
    return false;
  }

  // From the metal up: the first thing that is missing explains the rest.
  bool driver_works() {
    if (driver_.nodes.empty()) return no_nodes();
    for (const DeviceNode& node : driver_.nodes)
      if (!node.permitted)
        return problem(fmt::format(
            "No permission on {}: add the user {} to its group (`sudo usermod -aG {} {}`) and log "
            "in again.",
            node.path, driver_.user, node.group, driver_.user));
    if (!driver_.load_error.empty()) return no_library();
    if (driver_.init_code != 0) return init_failed();
    return driver_is_new_enough();
  }

  bool no_nodes() {
    if (driver_.in_container)
      return problem(fmt::format(
          "There is an NVIDIA GPU, but this container does not see it (no /dev/nvidia*): {}.",
          kContainerAdvice));
    if (driver_.module_version.empty())
      return problem(
          "There is an NVIDIA GPU, but its driver is not loaded: install it (Debian and Ubuntu: "
          "package nvidia-driver; `sudo modprobe nvidia` says what is wrong if it is installed), "
          "then reboot.");
    return problem(
        "The NVIDIA driver is loaded, but there is no device node (/dev/nvidia0, /dev/nvidiactl): "
        "run `sudo nvidia-modprobe -u -c 0`, or `sudo nvidia-smi` once.");
  }

  bool no_library() {
    const std::string found = fmt::format("libcuda.so.1 does not load: {}.", driver_.load_error);
    if (driver_.in_container)
      return problem(
          fmt::format("{} The container sees the GPU, but not its driver's libraries: {}; "
                      "NVIDIA_DRIVER_CAPABILITIES must hold compute and utility.",
                      found, kContainerAdvice));
    return problem(fmt::format(
        "{} It is part of the driver: install the one that belongs to kernel module {} (Debian: "
        "libcuda1, Ubuntu: libnvidia-compute), and run `sudo ldconfig`.",
        found, driver_.module_version.empty() ? "of this machine" : driver_.module_version));
  }

  bool init_failed() {
    const int code = driver_.init_code;
    switch (code) {
      case kNoDevice:
        return problem(
            driver_.hidden
                ? fmt::format(
                      "The driver shows no device: CUDA_VISIBLE_DEVICES is \"{}\". Unset it, "
                      "or name a device that exists.",
                      *driver_.hidden)
                : "The driver shows no device (code 100): `dmesg | grep -i nvrm` says why; a GPU "
                  "that fell off the bus comes back with a reboot.");
      case kNotReady:
        return problem(
            "The driver is not ready yet (code 802): on a machine with NVSwitch the service "
            "nvidia-fabricmanager must run, in the driver's version.");
      case kMismatch:
      case kCompatNotSupported:
        return problem(fmt::format(
            "libcuda.so.1 and the kernel module{} are of different versions (code {}): reboot "
            "after "
            "a driver update; in a container, remove the CUDA compatibility package from "
            "LD_LIBRARY_PATH.",
            driver_.module_version.empty() ? "" : " " + driver_.module_version, code));
      case kUnknown:
        return problem(
            "The driver does not start (code 999): load its memory module (`sudo modprobe "
            "nvidia-uvm`); after a suspend, unload and load it again or reboot.");
      default:
        return problem(fmt::format(
            "The driver does not start (code {}): see `nvidia-smi` and `dmesg | grep -i nvrm`.",
            code));
    }
  }

  bool driver_is_new_enough() {
    const int needed = major_of(facts_.program.toolkit);
    if (!facts_.program.has_cuda || driver_.cuda_version / 1000 >= needed) return true;
    return problem(fmt::format(
        "The driver{} is too old: it is for CUDA {}, and this program was built with CUDA {}. "
        "Update it to {} (Jetson: JetPack {}), or build with a CUDA {} toolkit.",
        driver_.version.empty() ? "" : " " + driver_.version, cuda_text(driver_.cuda_version),
        facts_.program.toolkit, needed >= 13 ? "580 or newer" : "525 or newer",
        needed >= 13 ? "7" : "6", driver_.cuda_version / 1000));
  }

  void judge(size_t index, const GpuFacts& gpu) {
    const std::string name = fmt::format("GPU {} ({})", index, gpu.name);
    if (gpu.open_code == kUnavailable) {
      problem(fmt::format(
          "{} is taken: another program uses it in exclusive mode (`nvidia-smi -q -d COMPUTE`).",
          name));
    } else if (gpu.open_code == kOutOfMemory) {
      problem(fmt::format(
          "{} has no memory left for a program to start: `nvidia-smi` lists who holds it.", name));
    } else if (gpu.open_code != 0) {
      problem(
          fmt::format("{} does not open (code {}): see `nvidia-smi` and `dmesg | grep -i nvrm`.",
                      name, gpu.open_code));
    }
    if (facts_.program.has_cuda && !has_cuda_code(facts_.program.archs, gpu.capability))
      problem(missing_cuda_code(name, gpu.capability, facts_.program.archs) + ".");
    if (gpu.open_code == 0 && gpu.total_bytes > 0 && gpu.available_bytes < gpu.total_bytes / 2)
      note(fmt::format("{}: more than half of its memory is in use by other programs.", name));
    if (!gpu.persistent && !gpu.integrated)
      note(fmt::format(
          "{}: persistence mode is off, so that each start waits for the driver; the service "
          "nvidia-persistenced keeps it loaded.",
          name));
  }

  void judge_program() {
    if (!facts_.program.has_cuda && !driver_.gpus.empty())
      note(
          "This program was built without CUDA, so models run on the CPU: `./dev build --cuda` "
          "builds for the GPU.");
  }

  const Facts& facts_;
  const DriverFacts& driver_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> diagnose(const Facts& facts) { return Diagnosis(facts).take(); }

}  // namespace donar::app::checkup
