// The text of `donar doctor`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app/checkup/diagnose.h"
#include "app/checkup/facts.h"

namespace donar::app::checkup {

std::string report(const Facts& facts, const std::vector<Finding>& findings,
                   std::string_view version);

// "CUDA 13.0 for 87, 90a", "no CUDA".
std::string cuda_text(const ProgramFacts& program);

// Of this very program.
ProgramFacts this_program();

}  // namespace donar::app::checkup
