// A chat completion request: parsed, typed, checked.
#pragma once

#include "server/sampling_fields.h"

namespace donar::server {

struct ChatRequest {
  CommonRequest common;
  json::array messages;
  json::array tools;  // empty if there are none or tool_choice is "none"
  json::array documents;
  json::object kwargs;  // chat_template_kwargs and reasoning_effort
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

Result<ChatRequest> parse_chat_request(const json::value& body, const RequestLimits& limits,
                                       WarnOnce& warnings);

// The part that /tokenize shares: messages, tools and how to render them.
void read_chat_prompt_fields(FieldReader& fields, ChatRequest& request);
// One warning per unknown field name.
void warn_unknown_fields(const FieldReader& fields, WarnOnce& warnings);

}  // namespace donar::server
