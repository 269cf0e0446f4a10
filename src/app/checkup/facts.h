// What `donar doctor` finds on a machine, as plain data. probe.cpp fills it, diagnose.cpp judges
// it, so that every fault can be had in a test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace donar::app::checkup {

// What this program was built with.
struct ProgramFacts {
  bool has_cuda = false;
  std::string toolkit;  // "13.0"; empty without CUDA
  std::string archs;    // "87,90a": the architectures it has code for
};

struct GpuFacts {
  std::string name;
  int capability = 0;  // 90: compute capability 9.0
  int num_sms = 0;
  uint64_t l2_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;       // as the driver says; 0: it says nothing
  uint64_t available_bytes = 0;  // what a program can have: on unified memory, the host's too
  bool integrated = false;       // shares the host's memory
  std::optional<double> watts, watts_limit, celsius;
  bool persistent = true;  // false: the driver unloads the device between programs
  int open_code = 0;       // of a context on it; 0: it opens
};

struct DeviceNode {
  std::string path;       // "/dev/nvidiactl"
  bool permitted = true;  // for reading and writing
  std::string group;      // that owns it
};

struct Library {
  std::string name;  // "cuBLASLt"
  std::string version;
  std::string error;  // of the loader; empty: it is there
};

struct DriverFacts {
  bool pci_device = false;        // an NVIDIA display or 3D controller on the PCI bus
  std::string board;              // of a Jetson: its model; else empty
  std::string module_version;     // of the loaded kernel module: "580.159.04"; empty: none
  std::vector<DeviceNode> nodes;  // of those that CUDA wants, the ones that exist
  bool in_container = false;
  std::string user;                   // name of the calling user
  std::optional<std::string> hidden;  // value of CUDA_VISIBLE_DEVICES, if it is set
  std::string load_error;             // of loading libcuda.so.1; empty: it is there
  int init_code = 0;                  // of cuInit, once the library is there
  int cuda_version = 0;               // that the driver is for: 13000
  std::string version;                // of NVML: "580.159.04"
  std::vector<GpuFacts> gpus;

  bool has_hardware() const {
    return pci_device || !board.empty() || !nodes.empty() || !module_version.empty();
  }
};

struct HostFacts {
  std::string cpu;  // model name
  std::string isa;  // instruction sets that kernels use
  int threads = 0;
  uint64_t total_bytes = 0, available_bytes = 0;
  std::string power_mode;  // of a Jetson: "MODE_30W (2)"; else the CPU's frequency governor
};

struct Facts {
  ProgramFacts program;
  HostFacts host;
  DriverFacts driver;
  std::vector<Library> libraries;  // optional ones
};

}  // namespace donar::app::checkup
