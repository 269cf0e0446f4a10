// What the control group of this process grants: CPUs and memory, in cgroup v2 and v1. Read once at
// start, never per step.
#pragma once

#include <cstdint>
#include <filesystem>

namespace donar {

struct CgroupLimits {
  double cpus = 0;  // quota / period of the tightest group on the way up; 0: no quota
  uint64_t memory_available =
      0;  // limit - usage + reclaimable page cache, of the tightest group; see has_memory_limit
  bool has_memory_limit = false;
};

// `root` is "/" but in tests: it holds proc/self/cgroup and sys/fs/cgroup.
CgroupLimits read_cgroup_limits(const std::filesystem::path& root = "/");

}  // namespace donar
