// What enters and leaves the engine: token ids and numbers, no text.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"

namespace donar::engine {

struct LogitBias {
  int32_t token = 0;
  float bias = 0.0f;
};

// Order of application as vLLM: allowed ids -> min_tokens, bad words and bias -> penalties ->
// temperature -> min_p -> top_k -> top_p.
struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy
  float top_p = 1.0f;               // (0, 1]
  int top_k = 0;                    // 0: off
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // > 0; over prompt and output
  float presence_penalty = 0.0f;    // [-2, 2]; over output
  float frequency_penalty = 0.0f;   // [-2, 2]; over output
  std::vector<LogitBias> logit_bias;
  std::vector<int32_t> allowed_tokens;  // empty: all
  std::vector<std::vector<int32_t>>
      bad_words;  // the last token of a sequence is banned when the ones before it are there
  std::optional<uint64_t> seed;  // choice i uses seed + i; none: the engine draws one
  int min_tokens = 0;            // before that, eos and stop tokens are banned
  bool ignore_eos = false;
  std::vector<int32_t> stop_tokens;  // beside the model's own end tokens
  int num_logprobs = -1;  // -1: none; else the sampled token's and this many best ones'; at most 20
  int num_prompt_logprobs = -1;  // the same for every prompt token after the first
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  int num_choices = 1;      // n
  int max_tokens = 16;      // per choice; prompt + max_tokens <= max_model_len, or submit refuses;
                            // 0: only the prompt is run, for its logprobs
  uint64_t cache_salt = 0;  // prefix cache entries are shared only within one salt
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kAbort, kError };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;  // of the raw logits, before bias, penalties and temperature
  int rank = 0;          // 1 = most likely
};

// Position of one token: the chosen one first, then the best num_logprobs in falling order.
using PositionLogprobs = std::vector<TokenLogprob>;

// What happened to one choice in one step.
struct TokenEvent {
  int choice = 0;
  std::vector<int32_t> tokens;  // usually one; the stop token itself is included as the last one
                                // when finish == kStop by token
  std::vector<PositionLogprobs> logprobs;     // one per token if asked for
  FinishReason finish = FinishReason::kNone;  // other than kNone: the choice's last event
  std::optional<int32_t>
      stop_token;  // the stop token that ended it, if it was not the model's own end token
  bool ended_by_token = false;  // tokens.back() is an end or stop token and not part of the text
  std::optional<Error> error;   // with kError, and with kAbort when the engine shuts down
  // Once per request, in its first event:
  std::vector<PositionLogprobs>
      prompt_logprobs;    // [prompt] with an empty first entry, if asked for
  int cached_tokens = 0;  // prompt tokens found in the prefix cache
};

// When things happened, for usage, timings and histograms. Valid once finished.
struct RequestTiming {
  TimePoint arrived{};    // submit
  TimePoint scheduled{};  // first step that ran a token of it
  TimePoint first_token{};
  TimePoint last_token{};
  int prompt_tokens = 0;
  int cached_tokens = 0;
  int generated_tokens = 0;  // all choices
  int num_preemptions = 0;
};

}  // namespace donar::engine
