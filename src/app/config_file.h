// --config FILE: the YAML that `vllm serve` takes, as far as flags need it: `key: value`, lists,
// comments, quotes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace donar::app {

struct ConfigEntry {
  std::string key;                  // "max-model-len", dashes only
  std::vector<std::string> values;  // one, or the items of a list
  bool is_list = false;
  int line = 0;
};

// Errors name `source` and the line.
Result<std::vector<ConfigEntry>> parse_config(std::string_view text, std::string_view source);

}  // namespace donar::app
