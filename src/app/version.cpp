// donar version
#include <fmt/format.h>

#include "app/checkup/report.h"
#include "app/commands.h"
#include "base/thread_pool.h"
#include "tensor/exec.h"

namespace donar::app {

Result<int> version(const Options&) {
  fmt::print("donar {} (CPU: {}, {} threads; {})\n", DONAR_VERSION, cpu_isa_name(detect_cpu_isa()),
             available_cpus(), checkup::cuda_text(checkup::this_program()));
  return 0;
}

}  // namespace donar::app
