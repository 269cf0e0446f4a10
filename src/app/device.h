// Which device a command runs on: what --device says, opened, with what may be taken of its memory.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/engine_config.h"
#include "engine/kv_sizing.h"
#include "tensor/cuda.h"
#include "tensor/memory_ledger.h"

namespace donar::app {

struct Device {
  std::optional<CudaDevice> cuda;  // none: the CPU
  engine::MemoryLimit limit;       // of its memory, once it is taken
  std::string note;       // why auto took the CPU, in a line; empty: there is nothing to say
  bool is_fault = false;  // of the note: there is a GPU, and it cannot be used

  std::string description() const;  // "NVIDIA H100 80GB HBM3 (sm_90)", "the CPU"
};

// What auto takes of the devices that are there: the first that there is code for; none: the CPU.
std::optional<int> choose_cuda_device(std::span<const CudaDevice> devices, std::string_view archs);

// wanted: auto, cpu, cuda or cuda:N. auto takes the CPU if no GPU can be used; a device that is
// named must open. Makes the device that of the calling thread and creates its context.
Result<Device> open_device(std::string_view wanted);

// One ledger per memory. Outlives the session.
struct Memory {
  MemoryLedger host;
  std::unique_ptr<MemoryLedger> cuda;  // once a CUDA device is open

  MemoryLedger& of_model() { return cuda ? *cuda : host; }
  uint64_t total() const { return host.total() + (cuda ? cuda->total() : 0); }
  std::string summary()
      const;  // "weights 16.1 GB, total 16.1 GB; host: staging 1.2 MB, total 1.2 MB"
};

// What this process may take of an open CUDA device: --gpu-memory-utilization, or all that is free
// where the cache's size is given.
engine::MemoryLimit cuda_memory_limit(const CudaDevice& device, const engine::EngineConfig& config);

}  // namespace donar::app
