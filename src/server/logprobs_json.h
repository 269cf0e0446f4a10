// Logprobs in the three forms that clients know: chat, completion, prompt_logprobs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace donar::server {

struct LogprobsStyle {
  const text::Tokenizer& tokenizer;
  int num_top = 0;            // entries of top_logprobs
  bool as_token_ids = false;  // "token_id:42" in place of the token's text
};

// The token's text; bytes that are not UTF-8 alone become U+FFFD.
std::string token_display(const LogprobsStyle& style, int32_t token);

// {"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}
json::object chat_logprobs(const LogprobsStyle& style,
                           const std::vector<engine::PositionLogprobs>& positions);

// {text_offset, token_logprobs, tokens, top_logprobs}; `offset` in characters is moved on. A
// position without logprobs is null.
json::object completion_logprobs(const LogprobsStyle& style, std::span<const int32_t> tokens,
                                 const std::vector<engine::PositionLogprobs>& positions,
                                 size_t& offset);

// [null, {"42": {logprob, rank, decoded_token}}, ...]
json::array prompt_logprobs_json(const LogprobsStyle& style,
                                 const std::vector<engine::PositionLogprobs>& positions);

}  // namespace donar::server
