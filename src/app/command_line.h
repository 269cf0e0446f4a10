// argv (and --config FILE) to a command with its options. Both --foo-bar and --foo_bar, --no-foo,
// --flag=value, and vLLM's dotted JSON keys (--speculative-config.method eagle3) are understood; an
// unknown flag is an error that suggests the nearest one.
#pragma once

#include <string>
#include <vector>

#include "app/options.h"
#include "base/error.h"

namespace donar::app {

struct CommandLine {
  std::string command;  // serve, run, bench, version; empty: `text` is all there is to do
  Options options;
  std::vector<std::string> warnings;  // one per ignored flag
  std::string text;                   // help; to be printed as it is
};

// `args` without the program's name.
Result<CommandLine> parse_command_line(const std::vector<std::string>& args);

}  // namespace donar::app
