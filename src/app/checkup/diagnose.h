// What is wrong with a machine, in words that its user can act on.
#pragma once

#include <string>
#include <vector>

#include "app/checkup/facts.h"

namespace donar::app::checkup {

struct Finding {
  bool is_problem = false;  // else a note: nothing needed is broken
  std::string text;
};

std::vector<Finding> diagnose(const Facts& facts);

}  // namespace donar::app::checkup
