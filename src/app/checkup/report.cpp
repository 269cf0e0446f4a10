#include "app/checkup/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/cuda_arch.h"
#include "tensor/memory_ledger.h"

namespace donar::app::checkup {
namespace {

std::string row(std::string_view name, std::string_view text) {
  return fmt::format("{:<9}{}\n", name, text);
}

std::string host_text(const HostFacts& host) {
  return fmt::format("{}: {}, {} threads; {} of memory, {} available", host.cpu, host.isa,
                     host.threads, format_bytes(host.total_bytes),
                     format_bytes(host.available_bytes));
}

std::string driver_text(const DriverFacts& driver) {
  const std::string& version = driver.version.empty() ? driver.module_version : driver.version;
  std::string out = version.empty() ? "no NVIDIA driver" : version;
  if (driver.cuda_version > 0)
    out += fmt::format(", for CUDA {}.{}", driver.cuda_version / 1000,
                       driver.cuda_version % 1000 / 10);
  return out;
}

std::string gpu_text(const GpuFacts& gpu, const ProgramFacts& program) {
  std::string out =
      fmt::format("{}: compute capability {}, {} SMs, {} L2; ", gpu.name,
                  capability_text(gpu.capability), gpu.num_sms, format_bytes(gpu.l2_bytes));
  out += fmt::format("{} {}", format_bytes(gpu.total_bytes),
                     gpu.integrated ? "shared with the CPU" : "of its own");
  if (gpu.free_bytes > 0) out += fmt::format(", {} free", format_bytes(gpu.free_bytes));
  if (gpu.integrated) out += fmt::format(", {} available", format_bytes(gpu.available_bytes));
  if (gpu.watts) out += fmt::format("; {:.0f} W", *gpu.watts);
  if (gpu.watts && gpu.watts_limit) out += fmt::format(" of {:.0f} W", *gpu.watts_limit);
  if (gpu.celsius) out += fmt::format(", {:.0f} C", *gpu.celsius);
  if (program.has_cuda)
    out += has_cuda_code(program.archs, gpu.capability) ? "; this program has code for it"
                                                        : "; this program has no code for it";
  return out;
}

}  // namespace

ProgramFacts this_program() {
  return {DONAR_CUDA != 0, DONAR_CUDA_TOOLKIT, std::string(cuda_archs())};
}

std::string cuda_text(const ProgramFacts& program) {
  if (!program.has_cuda) return "no CUDA";
  return fmt::format("CUDA {} for {}", program.toolkit, program.archs);
}

std::string report(const Facts& facts, const std::vector<Finding>& findings,
                   std::string_view version) {
  std::string out = row("donar", fmt::format("{}, {}", version, cuda_text(facts.program)));
  if (!facts.driver.board.empty()) out += row("board", facts.driver.board);
  out += row("CPU", host_text(facts.host));
  if (!facts.host.power_mode.empty()) out += row("power", facts.host.power_mode);
  out += row("driver", driver_text(facts.driver));
  for (size_t i = 0; i < facts.driver.gpus.size(); ++i)
    out += row(fmt::format("GPU {}", i), gpu_text(facts.driver.gpus[i], facts.program));
  for (const Library& library : facts.libraries)
    out += row("optional", fmt::format("{} {}", library.name,
                                       library.error.empty() ? library.version : "is not there"));
  bool any_problem = false;
  for (const Finding& finding : findings) {
    any_problem = any_problem || finding.is_problem;
    out += fmt::format("\n{}: {}\n", finding.is_problem ? "Problem" : "Note", finding.text);
  }
  if (!any_problem) out += "\nNothing that is needed is broken.\n";
  return out;
}

}  // namespace donar::app::checkup
