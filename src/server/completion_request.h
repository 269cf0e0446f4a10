// A completion request: parsed, typed, checked.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "server/sampling_fields.h"

namespace donar::server {

using PromptInput = std::variant<std::string, std::vector<int32_t>>;  // text or token ids

struct CompletionRequest {
  CommonRequest common;
  std::vector<PromptInput> prompts;  // at least one
};

Result<CompletionRequest> parse_completion_request(const json::value& body,
                                                   const RequestLimits& limits, WarnOnce& warnings);

}  // namespace donar::server
