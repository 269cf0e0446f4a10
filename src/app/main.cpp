// The entry: command line -> command -> exit code. Exceptions end here.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string_view>

#include "app/command_line.h"
#include "app/commands.h"

namespace donar::app {
namespace {

struct Row {
  std::string_view name;
  Result<int> (*run)(const Options& options);
};
constexpr Row kCommands[] = {
    {"serve", serve}, {"run", run}, {"bench", bench}, {"doctor", doctor}, {"version", version}};

constexpr int kUsageError = 2;

int run_command(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse_command_line(args);
  if (!line) {
    fmt::print(stderr, "donar: {}\n", line.error().message);
    return kUsageError;
  }
  if (line->command.empty()) {
    fmt::print("{}", line->text);
    return 0;
  }
  set_log_level(line->options.log_level.value_or(line->command == "serve" ? LogLevel::kInfo
                                                                          : LogLevel::kWarn));
  for (const std::string& warning : line->warnings) log_warn("{}", warning);
  for (const Row& row : kCommands) {
    if (row.name != line->command) continue;
    Result<int> code = row.run(line->options);
    if (code) return *code;
    fmt::print(stderr, "donar {}: {}\n", row.name, code.error().message);
    return 1;
  }
  return kUsageError;
}

}  // namespace
}  // namespace donar::app

int main(int argc, char** argv) {
  try {
    return donar::app::run_command({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "donar: {}\n", error.what());
    return 1;
  }
}
