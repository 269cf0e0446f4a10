// The conversation of `donar run` and its slash commands, apart from terminal and engine.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "engine/request.h"

namespace donar::app {

struct Conversation {
  std::string system;
  json::array messages;  // user and assistant turns
  engine::SamplingParams sampling;
  int max_tokens = 0;  // 0: what fits

  json::array with_system() const;  // what the template gets
};

struct CommandReply {
  std::string text;  // to show
  bool leave = false;
};

// `line` begins with a slash.
CommandReply run_chat_command(std::string_view line, Conversation& conversation);

// temperature, top_p, ... of a generation_config.json; other keys are left alone.
void apply_generation_config(const json::object& config, engine::SamplingParams& sampling);

}  // namespace donar::app
