// The fields that chat and completion requests share, read and checked with vLLM's names, ranges
// and defaults.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/field_reader.h"

namespace donar::server {

// What a request is checked against.
struct RequestLimits {
  int max_logprobs = 20;
  int64_t vocab_size = 0;                           // 0: not known
  const json::object* generation_config = nullptr;  // the model's own defaults; null: none
};

struct CommonRequest {
  std::optional<std::string> model;
  std::string request_id;  // becomes part of the reply's id; empty: the server's own
  engine::SamplingParams sampling;
  int n = 1;
  std::optional<int64_t> max_tokens;
  std::optional<int64_t> max_tokens_cap;  // max_new_tokens of generation_config
  std::vector<std::string> stop;
  std::vector<std::string> bad_words;  // become token ids with the prompt
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool add_special_tokens = false;
  bool echo = false;
  std::optional<int64_t> truncate_prompt_tokens;  // -1: what fits
  bool return_tokens_as_token_ids = false;
  bool return_token_ids = false;
  std::string cache_salt;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage_stats = false;
};

// Reads everything that is in CommonRequest but logprobs and max_tokens, whose form differs;
// refuses what nothing honours.
CommonRequest read_common_fields(FieldReader& fields, const RequestLimits& limits);

// "stream_options" belongs to streams; call after `stream` is known.
void check_logprob_count(FieldReader& fields, std::string_view name, int64_t count,
                         const RequestLimits& limits);

}  // namespace donar::server
