#include "tensor/memory_ledger.h"

#include <algorithm>
#include <fstream>

#include "base/cgroup.h"
#include "base/check.h"

namespace donar {

std::string_view memory_use_name(MemoryUse use) {
  switch (use) {
    case MemoryUse::kWeights:
      return "weights";
    case MemoryUse::kKv:
      return "kv";
    case MemoryUse::kWorkspace:
      return "workspace";
    case MemoryUse::kGraphs:
      return "graphs";
    case MemoryUse::kStaging:
      return "staging";
  }
  return "?";
}

MemoryLedger::~MemoryLedger() { DONAR_CHECK(total() == 0, "not given back: {}", summary()); }

Result<void> MemoryLedger::reserve(MemoryUse use, uint64_t bytes) {
  std::atomic<uint64_t>& used = used_[static_cast<size_t>(use)];
  // Take first, look at the sum then: two callers at once may both be refused near the limit, but
  // never both pass it.
  used.fetch_add(bytes, std::memory_order_seq_cst);
  const uint64_t sum = total();
  if (limit_bytes_ == 0 || sum <= limit_bytes_) return {};
  used.fetch_sub(bytes, std::memory_order_seq_cst);
  const uint64_t others = sum - bytes;
  return fail(
      ErrorCode::kResourceExhausted,
      "{} need {}, but {} of {} are left: choose a smaller model or context, or free memory",
      memory_use_name(use), format_bytes(bytes),
      format_bytes(others < limit_bytes_ ? limit_bytes_ - others : 0), format_bytes(limit_bytes_));
}

void MemoryLedger::release(MemoryUse use, uint64_t bytes) {
  const uint64_t before =
      used_[static_cast<size_t>(use)].fetch_sub(bytes, std::memory_order_seq_cst);
  DONAR_CHECK(before >= bytes, "{}: {} released, {} used", memory_use_name(use), bytes, before);
}

uint64_t MemoryLedger::total() const {
  uint64_t sum = 0;
  for (const std::atomic<uint64_t>& used : used_) sum += used.load(std::memory_order_seq_cst);
  return sum;
}

std::string MemoryLedger::summary() const {
  std::string text;
  for (int i = 0; i < kNumMemoryUses; ++i) {
    const auto use = static_cast<MemoryUse>(i);
    if (used(use) == 0) continue;
    text += fmt::format("{} {}, ", memory_use_name(use), format_bytes(used(use)));
  }
  return text + fmt::format("total {}", format_bytes(total()));
}

uint64_t available_host_memory() {
  uint64_t available = 0;
  std::ifstream in("/proc/meminfo");
  std::string key;
  while (in >> key) {
    uint64_t kib = 0;
    if (key == "MemAvailable:" && in >> kib) {
      available = kib << 10;
      break;
    }
    in.ignore(256, '\n');
  }
  const CgroupLimits limits = read_cgroup_limits();
  return limits.has_memory_limit ? std::min(available, limits.memory_available) : available;
}

std::string format_bytes(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  const char* const units[] = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000;
  int unit = 0;
  while (value >= 999.95 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace donar
