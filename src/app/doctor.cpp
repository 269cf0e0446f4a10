// donar doctor: what this machine has for models, and what is wrong with it.
#include <fmt/format.h>

#include "app/checkup/diagnose.h"
#include "app/checkup/probe.h"
#include "app/checkup/report.h"
#include "app/commands.h"

namespace donar::app {

Result<int> doctor(const Options&) {
  const checkup::Facts facts = checkup::probe();
  const std::vector<checkup::Finding> findings = checkup::diagnose(facts);
  fmt::print("{}", checkup::report(facts, findings, DONAR_VERSION));
  for (const checkup::Finding& finding : findings)
    if (finding.is_problem) return 1;
  return 0;
}

}  // namespace donar::app
