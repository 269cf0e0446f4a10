// One check per field, in the order of request.h.
#include "engine/validate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace donar::engine {
namespace {

template <class... Args>
tl::unexpected<Error> refuse(std::string param, fmt::format_string<Args...> format,
                             Args&&... args) {
  return tl::unexpected<Error>(Error{ErrorCode::kInvalidArgument,
                                     fmt::format(format, std::forward<Args>(args)...),
                                     std::move(param)});
}

Result<void> validate_tokens(const char* param, const std::vector<int32_t>& tokens,
                             int64_t vocab_size) {
  for (int32_t token : tokens) {
    if (token < 0 || (vocab_size > 0 && token >= vocab_size)) {
      return refuse(param, "{} contains token id {}, but ids run from 0 to {}", param, token,
                    vocab_size > 0 ? vocab_size - 1 : INT32_MAX);
    }
  }
  return {};
}

Result<void> validate_sampling(const SamplingParams& params, int max_tokens, int64_t vocab_size) {
  if (!(params.temperature >= 0.0f) || !std::isfinite(params.temperature)) {
    return refuse("temperature", "temperature must be at least 0, got {}", params.temperature);
  }
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    return refuse("top_p", "top_p must be in (0, 1], got {}", params.top_p);
  }
  if (params.top_k < 0)
    return refuse("top_k", "top_k must be at least 1, or 0 for no limit, got {}", params.top_k);
  if (!(params.min_p >= 0.0f && params.min_p <= 1.0f)) {
    return refuse("min_p", "min_p must be in [0, 1], got {}", params.min_p);
  }
  if (!(params.repetition_penalty > 0.0f) || !std::isfinite(params.repetition_penalty)) {
    return refuse("repetition_penalty", "repetition_penalty must be greater than 0, got {}",
                  params.repetition_penalty);
  }
  if (!(std::abs(params.presence_penalty) <= 2.0f)) {
    return refuse("presence_penalty", "presence_penalty must be in [-2, 2], got {}",
                  params.presence_penalty);
  }
  if (!(std::abs(params.frequency_penalty) <= 2.0f)) {
    return refuse("frequency_penalty", "frequency_penalty must be in [-2, 2], got {}",
                  params.frequency_penalty);
  }
  for (const LogitBias& bias : params.logit_bias) {
    if (std::isnan(bias.bias))
      return refuse("logit_bias", "logit_bias of token {} is not a number", bias.token);
    if (auto ok = validate_tokens("logit_bias", {bias.token}, vocab_size); !ok) return ok;
  }
  if (auto ok = validate_tokens("allowed_token_ids", params.allowed_tokens, vocab_size); !ok)
    return ok;
  if (params.bad_words.size() > kMaxBadWords) {
    return refuse("bad_words", "at most {} bad_words, got {}", kMaxBadWords,
                  params.bad_words.size());
  }
  for (const std::vector<int32_t>& word : params.bad_words) {
    if (word.empty()) return refuse("bad_words", "bad_words contains an empty word");
    if (auto ok = validate_tokens("bad_words", word, vocab_size); !ok) return ok;
  }
  if (params.min_tokens < 0 || params.min_tokens > max_tokens) {
    return refuse("min_tokens", "min_tokens must be between 0 and max_tokens ({}), got {}",
                  max_tokens, params.min_tokens);
  }
  if (params.num_logprobs < -1 || params.num_logprobs > kMaxLogprobs) {
    return refuse("logprobs", "at most {} logprobs per token, got {}", kMaxLogprobs,
                  params.num_logprobs);
  }
  if (params.num_prompt_logprobs < -1 || params.num_prompt_logprobs > kMaxLogprobs) {
    return refuse("prompt_logprobs", "at most {} logprobs per token, got {}", kMaxLogprobs,
                  params.num_prompt_logprobs);
  }
  return {};
}

}  // namespace

Result<void> validate_request(const Request& request, const RequestLimits& limits) {
  if (request.prompt.empty()) return refuse("prompt", "the prompt has no tokens");
  if (auto ok = validate_tokens("prompt", request.prompt, limits.vocab_size); !ok) return ok;
  if (request.num_choices < 1 || request.num_choices > kMaxChoices) {
    return refuse("n", "n must be between 1 and {}, got {}", kMaxChoices, request.num_choices);
  }
  if (request.max_tokens < 0)
    return refuse("max_tokens", "max_tokens must be at least 0, got {}", request.max_tokens);
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  if (num_prompt + request.max_tokens > limits.max_model_len) {
    return refuse(num_prompt >= limits.max_model_len ? "prompt" : "max_tokens",
                  "this model's maximum context length is {} tokens, but the request has {} in the "
                  "prompt and asks for {} more: "
                  "shorten the prompt or lower max_tokens",
                  limits.max_model_len, num_prompt, request.max_tokens);
  }
  return validate_sampling(request.sampling, request.max_tokens, limits.vocab_size);
}

}  // namespace donar::engine
