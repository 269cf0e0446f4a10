#include "app/chat_commands.h"

#include <fmt/format.h>

#include <string>

#include "app/values.h"

namespace donar::app {
namespace {

constexpr const char* kHelp =
    "/help                 this text\n"
    "/clear                forget the conversation\n"
    "/system [TEXT]        set the system prompt and start anew; without TEXT: show it\n"
    "/set [NAME VALUE]     temperature, top_p, top_k, min_p, repetition_penalty, "
    "presence_penalty,\n"
    "                      frequency_penalty, seed, max_tokens; without arguments: show them\n"
    "/exit, Ctrl-D         leave\n"
    "Ctrl-C                stop the answer\n";

struct FloatField {
  std::string_view name;
  float engine::SamplingParams::*field;
  double low, high;
};
constexpr FloatField kFloats[] = {
    {"temperature", &engine::SamplingParams::temperature, 0.0, 100.0},
    {"top_p", &engine::SamplingParams::top_p, 1e-6, 1.0},
    {"min_p", &engine::SamplingParams::min_p, 0.0, 1.0},
    {"repetition_penalty", &engine::SamplingParams::repetition_penalty, 1e-6, 100.0},
    {"presence_penalty", &engine::SamplingParams::presence_penalty, -2.0, 2.0},
    {"frequency_penalty", &engine::SamplingParams::frequency_penalty, -2.0, 2.0},
};
constexpr int64_t kMaxInt = int64_t{1} << 30;

std::string settings(const Conversation& conversation) {
  std::string out;
  for (const FloatField& row : kFloats)
    out += fmt::format("{} {}\n", row.name, conversation.sampling.*row.field);
  out += fmt::format("top_k {}\n", conversation.sampling.top_k);
  out += conversation.sampling.seed ? fmt::format("seed {}\n", *conversation.sampling.seed)
                                    : "seed random\n";
  out += conversation.max_tokens > 0 ? fmt::format("max_tokens {}\n", conversation.max_tokens)
                                     : "max_tokens what fits\n";
  return out;
}

Result<void> set(std::string_view name, std::string_view value, Conversation& conversation) {
  for (const FloatField& row : kFloats) {
    if (name != row.name) continue;
    Result<double> number = parse_number(value, row.low, row.high);
    if (!number) return forward_error(number);
    conversation.sampling.*row.field = static_cast<float>(*number);
    return {};
  }
  if (name == "seed" && value == "random") {
    conversation.sampling.seed.reset();
    return {};
  }
  if (name != "top_k" && name != "seed" && name != "max_tokens")
    return fail(ErrorCode::kInvalidArgument, "there is no setting \"{}\"; /help lists them", name);
  Result<int64_t> number =
      parse_integer(value, 0, name == "seed" ? std::numeric_limits<int64_t>::max() : kMaxInt);
  if (!number) return forward_error(number);
  if (name == "top_k") conversation.sampling.top_k = static_cast<int>(*number);
  if (name == "seed") conversation.sampling.seed = static_cast<uint64_t>(*number);
  if (name == "max_tokens") conversation.max_tokens = static_cast<int>(*number);
  return {};
}

// The first word, and the rest without blanks around it.
std::pair<std::string_view, std::string_view> split(std::string_view text) {
  const size_t blank = text.find_first_of(" \t");
  if (blank == text.npos) return {text, {}};
  std::string_view rest = text.substr(blank);
  const size_t begin = rest.find_first_not_of(" \t");
  if (begin == rest.npos) return {text.substr(0, blank), {}};
  rest = rest.substr(begin, rest.find_last_not_of(" \t") - begin + 1);
  return {text.substr(0, blank), rest};
}

}  // namespace

json::array Conversation::with_system() const {
  json::array out;
  if (!system.empty()) out.push_back(json::object{{"role", "system"}, {"content", system}});
  for (const json::value& message : messages) out.push_back(message);
  return out;
}

CommandReply run_chat_command(std::string_view line, Conversation& conversation) {
  const auto [command, rest] = split(line);
  if (command == "/exit" || command == "/quit" || command == "/bye") return {"", /*leave=*/true};
  if (command == "/help" || command == "/?") return {kHelp};
  if (command == "/clear") {
    conversation.messages.clear();
    return {"The conversation is forgotten.\n"};
  }
  if (command == "/system") {
    if (rest.empty())
      return {conversation.system.empty() ? "No system prompt.\n" : conversation.system + "\n"};
    conversation.system = rest;
    conversation.messages.clear();
    return {"System prompt set; the conversation starts anew.\n"};
  }
  if (command == "/set") {
    if (rest.empty()) return {settings(conversation)};
    const auto [name, value] = split(rest);
    if (Result<void> done = set(name, value, conversation); !done)
      return {done.error().message + "\n"};
    return {fmt::format("{} = {}\n", name, value)};
  }
  return {fmt::format("There is no command {}; /help lists them.\n", command)};
}

void apply_generation_config(const json::object& config, engine::SamplingParams& sampling) {
  const auto number = [&](std::string_view name) -> std::optional<double> {
    const json::value* value = config.if_contains(name);
    if (value == nullptr || !value->is_number()) return std::nullopt;
    return value->to_number<double>();
  };
  for (const FloatField& row : kFloats) {
    if (row.name == "presence_penalty" || row.name == "frequency_penalty")
      continue;  // no keys of that file
    if (const auto value = number(row.name); value && *value >= row.low && *value <= row.high)
      sampling.*row.field = static_cast<float>(*value);
  }
  if (const auto value = number("top_k");
      value && *value >= 0 && *value <= static_cast<double>(kMaxInt))
    sampling.top_k = static_cast<int>(*value);
}

}  // namespace donar::app
