#include "app/checkup/probe.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <system_error>

#include "app/checkup/report.h"
#include "app/environment.h"
#include "base/thread_pool.h"
#include "tensor/exec.h"
#include "tensor/memory_ledger.h"

namespace donar::app::checkup {
namespace {

namespace fs = std::filesystem;

// A small file of /proc or /sys, whose size says nothing; empty if it cannot be read.
std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(64 << 10, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' '))
    text.pop_back();
  return text;
}

// What follows the first colon of the first line that begins with `key`.
std::string field(const std::string& text, std::string_view key) {
  size_t at = text.starts_with(key) ? 0 : text.find("\n" + std::string(key));
  if (at == text.npos) return {};
  const size_t colon = text.find(':', at + 1);
  const size_t end = std::min(text.find('\n', at + 1), text.size());
  if (colon == text.npos || colon >= end) return {};
  const size_t begin = text.find_first_not_of(" \t", colon + 1);
  return begin < end ? text.substr(begin, end - begin) : std::string();
}

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

// A display or 3D controller of NVIDIA.
bool has_pci_gpu(const fs::path& root) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(root / "sys/bus/pci/devices", none))
    if (text_of(entry.path() / "vendor") == "0x10de" &&
        text_of(entry.path() / "class").starts_with("0x03"))
      return true;
  return false;
}

std::string kernel_module_version(const fs::path& root) {
  if (std::string version = text_of(root / "sys/module/nvidia/version"); !version.empty())
    return version;
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue ..."
  const std::string text = text_of(root / "proc/driver/nvidia/version");
  size_t at = text.find("Module");
  while (at != text.npos && at < text.size() && (text[at] < '0' || text[at] > '9')) ++at;
  if (at >= text.size()) return {};
  return text.substr(at, text.find_first_not_of("0123456789.", at) - at);
}

bool in_container(const fs::path& root) {
  if (is_there(root / ".dockerenv") || is_there(root / "run/.containerenv")) return true;
  const std::string groups = text_of(root / "proc/1/cgroup");
  for (const char* name : {"docker", "kubepods", "lxc", "containerd"})
    if (groups.find(name) != groups.npos) return true;
  return false;
}

std::vector<DeviceNode> device_nodes(const fs::path& root) {
  // The last three: integrated GPUs of Jetsons; WSL.
  constexpr const char* kNodes[] = {
      "dev/nvidiactl",        "dev/nvidia0", "dev/nvidia-uvm", "dev/nvhost-ctrl-gpu",
      "dev/nvgpu/igpu0/ctrl", "dev/nvmap",   "dev/dxg"};
  std::vector<DeviceNode> nodes;
  for (const char* name : kNodes) {
    const fs::path path = root / name;
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) continue;
    DeviceNode node{"/" + std::string(name), access(path.c_str(), R_OK | W_OK) == 0, {}};
    const struct group* group = getgrgid(status.st_gid);
    node.group = group != nullptr ? group->gr_name : fmt::format("{}", status.st_gid);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::string user_name() {
  const struct passwd* user = getpwuid(geteuid());
  return user != nullptr ? user->pw_name : fmt::format("{}", geteuid());
}

}  // namespace

std::string nvpmodel_mode(std::string_view status, std::string_view configuration) {
  const size_t at = status.find("pmode:");
  if (at == status.npos) return {};
  int id = 0;
  const char* begin = status.data() + at + 6;
  if (std::from_chars(begin, status.data() + status.size(), id).ec != std::errc()) return {};
  for (size_t row = configuration.find("POWER_MODEL"); row != configuration.npos;
       row = configuration.find("POWER_MODEL", row + 1)) {
    const std::string_view line =
        configuration.substr(row, configuration.find_first_of(">\n", row) - row);
    const size_t number = line.find("ID="), name = line.find("NAME=");
    if (number == line.npos || name == line.npos) continue;
    int found = -1;
    std::from_chars(line.data() + number + 3, line.data() + line.size(), found);
    if (found != id) continue;
    const std::string_view text = line.substr(name + 5);
    return fmt::format("{} ({})", text.substr(0, text.find_first_of(" \t")), id);
  }
  return fmt::format("{}", id);
}

void probe_files(const fs::path& root, DriverFacts& driver) {
  driver.pci_device = has_pci_gpu(root);
  if (text_of(root / "proc/device-tree/compatible").find("nvidia,tegra") != std::string::npos) {
    driver.board = text_of(root / "proc/device-tree/model");
    if (driver.board.empty()) driver.board = "NVIDIA Tegra";
  }
  driver.module_version = kernel_module_version(root);
  driver.nodes = device_nodes(root);
  driver.in_container = in_container(root);
}

HostFacts probe_host(const fs::path& root) {
  HostFacts host;
  host.cpu = field(text_of(root / "proc/cpuinfo"), "model name");
  // Arm's /proc/cpuinfo mostly has no name: that of the board instead.
  if (host.cpu.empty()) host.cpu = text_of(root / "proc/device-tree/model");
  if (host.cpu.empty()) host.cpu = text_of(root / "sys/class/dmi/id/product_name");
  host.isa = cpu_isa_name(detect_cpu_isa());
  host.threads = available_cpus();
  const std::string total = field(text_of(root / "proc/meminfo"), "MemTotal");
  uint64_t kilobytes = 0;
  std::from_chars(total.data(), total.data() + total.size(), kilobytes);
  host.total_bytes = kilobytes * 1024;
  host.available_bytes = available_host_memory();
  host.power_mode =
      nvpmodel_mode(text_of(root / "var/lib/nvpmodel/status"), text_of(root / "etc/nvpmodel.conf"));
  if (host.power_mode.empty()) {
    const std::string governor =
        text_of(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if (!governor.empty()) host.power_mode = "CPU governor " + governor;
  }
  return host;
}

Facts probe() {
  Facts facts;
  facts.program = this_program();
  facts.host = probe_host("/");
  DriverFacts& driver = facts.driver;
  probe_files("/", driver);
  driver.user = user_name();
  const std::map<std::string, std::string> variables = environment();
  if (const auto it = variables.find("CUDA_VISIBLE_DEVICES"); it != variables.end())
    driver.hidden = it->second;
  probe_driver(facts.host.available_bytes, driver);
  facts.libraries = probe_libraries();
  return facts;
}

}  // namespace donar::app::checkup
