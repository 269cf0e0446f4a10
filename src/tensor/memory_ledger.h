// Every byte has an owner: tagged totals per kind of use, sized before anything is allocated,
// printed at start, exported, zero at exit.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace donar {

enum class MemoryUse : uint8_t { kWeights, kKv, kWorkspace, kGraphs, kStaging };
inline constexpr int kNumMemoryUses = 5;

// Where the bytes of a ledger lie: each memory has its own.
enum class MemorySpace : uint8_t {
  kHost,
  kCuda,  // the memory of the calling thread's CUDA device (tensor/cuda.h)
};
std::string_view memory_use_name(MemoryUse use);

class MemoryLedger {
 public:
  // limit_bytes: what this process may take on the device; 0 = no limit of our own.
  explicit MemoryLedger(uint64_t limit_bytes = 0, MemorySpace space = MemorySpace::kHost)
      : limit_bytes_(limit_bytes), space_(space) {}
  ~MemoryLedger();  // checks that every byte came home
  MemoryLedger(const MemoryLedger&) = delete;
  MemoryLedger& operator=(const MemoryLedger&) = delete;

  // kResourceExhausted with needed and available numbers if `bytes` more would pass the limit.
  // Thread-safe.
  Result<void> reserve(MemoryUse use, uint64_t bytes);
  void release(MemoryUse use, uint64_t bytes);

  uint64_t used(MemoryUse use) const {
    return used_[static_cast<size_t>(use)].load(std::memory_order_relaxed);
  }
  uint64_t total() const;
  uint64_t limit_bytes() const { return limit_bytes_; }
  MemorySpace space() const { return space_; }
  std::string summary() const;  // "weights 98.4 MB, kv 512.0 MB, workspace 12.1 MB, total 622.5 MB"

 private:
  const uint64_t limit_bytes_;
  const MemorySpace space_;
  std::array<std::atomic<uint64_t>, kNumMemoryUses> used_{};
};

// Host memory that new allocations can use without swapping: MemAvailable, capped by the cgroup's
// limit. Bytes.
uint64_t available_host_memory();

std::string format_bytes(uint64_t bytes);  // "98.4 MB", decimal units

}  // namespace donar
