// The only translation unit that sees CLI11.
#include "app/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <memory>
#include <set>

#include "app/config_file.h"
#include "app/flags.h"
#include "app/values.h"
#include "base/file.h"
#include "base/json.h"
#include "tensor/cuda.h"

namespace donar::app {
namespace {

struct Command {
  const char* name;
  unsigned bit;
  const char* help;
};
constexpr Command kCommands[] = {
    {"serve", kServe, "Serve a model over HTTP, with OpenAI's API and a chat page"},
    {"run", kRun, "Chat with a model in the terminal"},
    {"bench", kBench, "Measure prompt and decode speed"},
    {"doctor", 0, "Say what this machine has for models, and what is wrong with it"},
    {"version", 0, "Print the version"},
};

std::string with_dashes(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

// Long aliases that CLI11 cannot know (-tp, -O3) and spellings of vLLM to plain --name[=value].
std::vector<std::string> normalised(const std::vector<std::string>& args) {
  std::vector<std::string> out;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      out.insert(out.end(), args.begin() + static_cast<ptrdiff_t>(i), args.end());
      break;
    }
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(0, equals);
    const std::string rest = equals == arg.npos ? std::string() : arg.substr(equals);
    if (arg.starts_with("--")) {
      const size_t dot = name.find('.');
      if (dot == name.npos) {
        out.push_back(with_dashes(name) + rest);
        continue;
      }
      // --compilation-config.level 0 -> --compilation-config={"level":"0"}
      const bool next_is_value =
          equals == arg.npos && i + 1 < args.size() && !args[i + 1].starts_with("--");
      const std::string value = equals != arg.npos ? arg.substr(equals + 1)
                                : next_is_value    ? args[++i]
                                                   : std::string("true");
      json::object object;
      object[name.substr(dot + 1)] = value;
      out.push_back(with_dashes(name.substr(0, dot)) + "=" + json::serialize(object));
      continue;
    }
    if (const Flag* flag = arg.starts_with('-') ? find_flag(name) : nullptr; flag != nullptr) {
      out.push_back(std::string(flag->name) + rest);
    } else if (arg.starts_with("-O") && arg.size() > 2) {
      out.push_back("--compilation-config=" + arg.substr(2));
    } else {
      out.push_back(arg);
    }
  }
  return out;
}

std::string flag_name(std::string_view arg) {  // "--no-foo=x" -> "--foo"
  std::string name(arg.substr(0, arg.find('=')));
  if (find_flag(name) == nullptr && name.starts_with("--no-")) name = "--" + name.substr(5);
  return name;
}

// The file's entries as flags, except those that the command line gives itself.
Result<std::vector<std::string>> config_args(const std::string& path,
                                             const std::vector<std::string>& given) {
  Result<std::string> text = read_text_file(path, /*max_bytes=*/size_t{1} << 20);
  if (!text) return forward_error(text);
  Result<std::vector<ConfigEntry>> entries = parse_config(*text, path);
  if (!entries) return forward_error(entries);
  std::set<std::string> taken;
  for (const std::string& arg : given)
    if (arg.starts_with("--")) taken.insert(flag_name(arg));
  std::vector<std::string> out;
  for (const ConfigEntry& entry : *entries) {
    const std::string name = "--" + (entry.key == "model-tag" ? std::string("model") : entry.key);
    const Flag* flag = find_flag(flag_name(name));
    if (flag == nullptr)
      return fail(ErrorCode::kInvalidArgument, "{} line {}: unknown key \"{}\"", path, entry.line,
                  entry.key);
    if (taken.contains(std::string(flag->name))) continue;
    if (flag->kind == FlagKind::kList) {
      for (const std::string& value : entry.values) out.push_back(name + "=" + value);
      continue;
    }
    if (entry.is_list || entry.values.size() != 1)
      return fail(ErrorCode::kInvalidArgument, "{} line {}: \"{}\" takes one value", path,
                  entry.line, entry.key);
    if (flag->kind == FlagKind::kSwitch) {
      Result<bool> on = parse_bool(entry.values.front());
      if (!on)
        return fail(ErrorCode::kInvalidArgument, "{} line {}: {}", path, entry.line,
                    on.error().message);
      if (*on)
        out.push_back(name);
      else if (name == flag->name)
        out.push_back("--no-" + name.substr(2));
      continue;
    }
    out.push_back(name + "=" + entry.values.front());
  }
  return out;
}

// Takes --config out of `args` and puts the file's flags in its place.
Result<void> expand_config(std::vector<std::string>& args) {
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--") break;
    if (args[i] != "--config" && !args[i].starts_with("--config=")) continue;
    const bool split = args[i] == "--config";
    if (split && i + 1 == args.size())
      return fail(ErrorCode::kInvalidArgument, "--config needs a file");
    const std::string path = split ? args[i + 1] : args[i].substr(9);
    const auto at = args.begin() + static_cast<ptrdiff_t>(i);
    args.erase(at, at + 1 + split);
    Result<std::vector<std::string>> extra = config_args(path, args);
    if (!extra) return forward_error(extra);
    args.insert(args.begin() + static_cast<ptrdiff_t>(i), extra->begin(), extra->end());
    i += extra->size();
    if (i-- == 0) continue;
  }
  return {};
}

std::string unknown_flag(const std::string& arg, const Command& command) {
  const std::string name = arg.substr(0, arg.find('='));
  std::vector<std::string_view> candidates;
  for (const Flag& flag : all_flags())
    if ((flag.commands & command.bit) != 0) candidates.push_back(flag.name);
  const std::string_view suggestion =
      nearest(name.starts_with("--no-") ? "--" + name.substr(5) : name, candidates);
  const Flag* elsewhere = find_flag(flag_name(name));
  if (elsewhere != nullptr)
    return fmt::format("{} is not a flag of `donar {}`; see `donar {} --help`", name, command.name,
                       command.name);
  return fmt::format("unknown flag {}{}; see `donar {} --help`", name,
                     suggestion.empty() ? "" : fmt::format(", did you mean {}?", suggestion),
                     command.name);
}

// The options of one command, declared to CLI11 from the table.
class CommandParser {
 public:
  CommandParser(CLI::App& root, const Command& command) : command_(command) {
    app_ = root.add_subcommand(command.name, command.help);
    app_->allow_extras();
    if (command.bit == 0) return;
    app_->add_option("MODEL", positional_,
                     "directory, .gguf file, or repository id in the Hugging Face cache");
    if (command.bit == kServe)
      app_->add_option("--config", "YAML file with flags as keys; the command line wins")
          ->type_name("FILE");
    for (const Flag& flag : all_flags())
      if ((flag.commands & command.bit) != 0) declare(flag);
    if (command.bit == kServe)
      app_->footer(
          "Every other flag of `vllm serve` is recognised too: it is either refused as not "
          "supported yet or ignored with "
          "a warning that says why. docs/user-guide.md lists them.");
  }

  bool chosen() const { return app_->parsed(); }

  Result<CommandLine> result() const {
    CommandLine line;
    line.command = command_.name;
    for (const std::string& arg : app_->remaining()) {
      if (arg.starts_with("-") && arg.size() > 1)
        return fail(ErrorCode::kInvalidArgument, "{}", unknown_flag(arg, command_));
      return fail(ErrorCode::kInvalidArgument, "unexpected argument \"{}\" of `donar {}`", arg,
                  command_.name);
    }
    for (const auto& [flag, option] : declared_) {
      if (option->count() == 0) continue;
      const std::vector<std::string>& results = option->results();
      FlagValue value;
      value.values = results;
      value.text = results.back();
      if (flag->kind == FlagKind::kSwitch) {
        Result<bool> on = parse_bool(results.back());
        if (!on) return fail(ErrorCode::kInvalidArgument, "{}: {}", flag->name, on.error().message);
        value.on = *on;
      }
      if (Result<void> ok = apply_flag(*flag, value, line.options, line.warnings); !ok)
        return forward_error(ok);
    }
    warn_of_gpu_flags(line);
    if (!positional_.empty() && !line.options.model.empty() && line.options.model != positional_)
      return fail(ErrorCode::kInvalidArgument, "two models: {} and --model {}; give one",
                  positional_, line.options.model);
    if (!positional_.empty()) line.options.model = positional_;
    return line;
  }

 private:
  // Where it is plain already that the CPU will be the device.
  void warn_of_gpu_flags(CommandLine& line) const {
    if (kCuda && line.options.device != "cpu") return;
    for (const auto& [flag, option] : declared_)
      if (flag->group == kGpuGroup && option->count() > 0)
        line.warnings.push_back(
            fmt::format("{} is ignored because {}", flag->name,
                        kCuda ? "the CPU is the device" : "this program was built without CUDA"));
  }

  void declare(const Flag& flag) {
    const std::string name(flag.name);
    const std::string help(flag.help);
    CLI::Option* option = nullptr;
    if (flag.kind == FlagKind::kSwitch) {
      option = app_->add_flag(name + ",!--no-" + name.substr(2), help);
    } else {
      option = app_->add_option(name, help);
      option->type_name(std::string(flag.value_name));
      if (flag.kind == FlagKind::kList)
        option->expected(1, 1 << 20);
      else
        option->expected(1);
    }
    option->multi_option_policy(flag.kind == FlagKind::kList ? CLI::MultiOptionPolicy::TakeAll
                                                             : CLI::MultiOptionPolicy::TakeLast);
    option->group(flag.status == FlagStatus::kHonoured ? std::string(flag.group)
                                                       : std::string());  // "": hidden
    declared_.emplace_back(&flag, option);
  }

  Command command_;
  CLI::App* app_;
  std::string positional_;
  std::vector<std::pair<const Flag*, CLI::Option*>> declared_;
};

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& args) {
  CLI::App root("Donar serves open-weight language models on this machine.", "donar");
  root.allow_extras();
  bool version = false;
  root.add_flag("--version,-V", version, "Print the version");
  std::vector<std::unique_ptr<CommandParser>> parsers;
  for (const Command& command : kCommands)
    parsers.push_back(std::make_unique<CommandParser>(root, command));

  std::vector<std::string> words = normalised(args);
  if (Result<void> ok = expand_config(words); !ok) return forward_error(ok);
  CommandLine line;
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes them last first
    root.parse(words);
  } catch (const CLI::CallForHelp&) {
    line.text = root.help();
    return line;
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  if (version) {
    line.command = "version";
    return line;
  }
  for (const auto& parser : parsers)
    if (parser->chosen()) return parser->result();
  if (args.empty() || args.front() == "help") {
    line.text = root.help();
    return line;
  }
  std::vector<std::string_view> names;
  for (const Command& command : kCommands) names.push_back(command.name);
  const std::string_view suggestion = nearest(args.front(), names);
  return fail(ErrorCode::kInvalidArgument, "unknown {} \"{}\"{}; see `donar --help`",
              args.front().starts_with('-') ? "flag" : "command", args.front(),
              suggestion.empty() ? "" : fmt::format(", did you mean {}?", suggestion));
}

}  // namespace donar::app
