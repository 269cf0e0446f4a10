// What is wrong with a machine, in words that its user can act on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app/checkup/facts.h"

namespace donar::app::checkup {

struct Finding {
  bool is_problem = false;  // else a note: nothing needed is broken
  std::string text;
};

std::vector<Finding> diagnose(const Facts& facts);

// Whether code for `archs` ("87,90a") runs on a device of this compute capability (90).
bool has_code_for(std::string_view archs, int capability);

// "9.0" of 90.
std::string capability_text(int capability);

}  // namespace donar::app::checkup
