// The table of all flags: Donar's own and every one of `vllm serve` that its users pass. Each is
// honoured, refused aloud ("not supported yet") or ignored with one warning that gives the reason;
// none is dropped in silence.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/options.h"
#include "base/error.h"

namespace donar::app {

enum class FlagKind {
  kSwitch,  // --foo and --no-foo
  kValue,   // --foo VALUE, the last one counts
  kList,    // --foo A B, repeatable
};

enum class FlagStatus { kHonoured, kUnsupported, kIgnored };

// Which commands take it.
inline constexpr unsigned kServe = 1, kRun = 2, kBench = 4;
inline constexpr unsigned kAllCommands = kServe | kRun | kBench;

// Heading of the flags that only a CUDA device heeds.
inline constexpr std::string_view kGpuGroup = "GPU";

struct FlagValue {
  bool on = true;                   // of a switch
  std::vector<std::string> values;  // of a list
  std::string text;                 // of a value
};

struct Flag {
  std::string_view name;   // "--max-model-len"
  std::string_view alias;  // "-tp"; empty: none
  FlagKind kind = FlagKind::kValue;
  FlagStatus status = FlagStatus::kHonoured;
  unsigned commands = kServe;
  std::string_view group;       // heading in the help
  std::string_view value_name;  // "TOKENS"
  std::string_view help;  // honoured: what it does; else: what there is instead, or the reason
  std::string_view
      neutral;  // value that says what happens anyway, so it is neither refused nor warned about
  Result<void> (*apply)(Options& options, const FlagValue& value) = nullptr;  // honoured flags
};

std::span<const Flag> all_flags();
// By name or alias, dashes only; null if unknown. `--no-foo` is not looked up here.
const Flag* find_flag(std::string_view name);

// Honours, refuses or notes a warning. The error names the flag.
Result<void> apply_flag(const Flag& flag, const FlagValue& value, Options& options,
                        std::vector<std::string>& warnings);

}  // namespace donar::app
