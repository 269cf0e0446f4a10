#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace donar {
namespace {

namespace fs = std::filesystem;

// The first number in a file; nullopt if there is none ("max") or no file.
std::optional<double> read_number(const fs::path& path) {
  std::ifstream in(path);
  double value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// The value after `key` in a file of "key value" lines.
double read_stat(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  std::string name;
  double value = 0;
  while (in >> name >> value) {
    if (name == key) return value;
  }
  return 0;
}

void tighten_cpus(CgroupLimits& limits, double quota, double period) {
  if (quota <= 0 || period <= 0) return;
  const double cpus = quota / period;
  limits.cpus = limits.cpus > 0 ? std::min(limits.cpus, cpus) : cpus;
}

void tighten_memory(CgroupLimits& limits, const fs::path& group, const char* limit_name,
                    const char* usage_name, const char* reclaimable_name) {
  const std::optional<double> limit = read_number(group / limit_name);
  // v1 writes "no limit" as a huge number.
  if (!limit || *limit >= 0x1p60) return;
  const double used = read_number(group / usage_name).value_or(0);
  const double reclaimable = read_stat(group / "memory.stat", reclaimable_name);
  const double available = std::clamp(*limit - used + reclaimable, 0.0, *limit);
  const auto bytes = static_cast<uint64_t>(available);
  limits.memory_available =
      limits.has_memory_limit ? std::min(limits.memory_available, bytes) : bytes;
  limits.has_memory_limit = true;
}

void read_v2_group(CgroupLimits& limits, const fs::path& group) {
  std::ifstream in(group / "cpu.max");
  double quota = 0;
  double period = 0;
  if (in >> quota >> period) tighten_cpus(limits, quota, period);
  tighten_memory(limits, group, "memory.max", "memory.current", "inactive_file");
}

void read_v1_cpu(CgroupLimits& limits, const fs::path& group) {
  tighten_cpus(limits, read_number(group / "cpu.cfs_quota_us").value_or(0),
               read_number(group / "cpu.cfs_period_us").value_or(0));
}

void read_v1_memory(CgroupLimits& limits, const fs::path& group) {
  tighten_memory(limits, group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                 "total_inactive_file");
}

// The group itself and all above it: each may be the tightest. In a container the path may name
// what is not mounted here; the mount's top is then the container's own group.
template <class Read>
void walk_up(CgroupLimits& limits, const fs::path& mount, const std::string& group, Read read) {
  fs::path path = fs::path(group).relative_path();
  while (!path.empty()) {
    read(limits, mount / path);
    path = path.parent_path();
  }
  read(limits, mount);
}

bool has_controller(const std::string& list, const std::string& wanted) {
  std::istringstream in(list);
  std::string name;
  while (std::getline(in, name, ',')) {
    if (name == wanted) return true;
  }
  return false;
}

}  // namespace

CgroupLimits read_cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  const fs::path mount = root / "sys/fs/cgroup";
  std::ifstream in(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      walk_up(limits, mount, group, read_v2_group);
      walk_up(limits, mount / "unified", group, read_v2_group);
    } else {
      if (has_controller(controllers, "cpu")) {
        walk_up(limits, mount / "cpu", group, read_v1_cpu);
      }
      if (has_controller(controllers, "memory")) {
        walk_up(limits, mount / "memory", group, read_v1_memory);
      }
    }
  }
  return limits;
}

}  // namespace donar
