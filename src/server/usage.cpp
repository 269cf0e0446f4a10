// Counting and timing of a request.
#include "server/usage.h"

#include <algorithm>

namespace donar::server {

json::object usage_json(const Usage& usage) {
  json::object out;
  out["prompt_tokens"] = usage.prompt_tokens;
  out["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  out["completion_tokens"] = usage.completion_tokens;
  json::object details;
  details["cached_tokens"] = usage.cached_tokens;
  out["prompt_tokens_details"] = std::move(details);
  return out;
}

void Timings::add(const engine::RequestTiming& timing) {
  if (timing.scheduled == TimePoint{} || timing.first_token == TimePoint{}) return;
  begin_ = std::min(begin_, timing.scheduled);
  first_token_ = std::min(first_token_, timing.first_token);
  last_token_ = std::max(last_token_, timing.last_token);
}

// The first token of every sequence belongs to the prompt's time, so the speed counts the others.
json::object Timings::to_json(const Usage& usage, int num_sequences) const {
  const bool known = begin_ != TimePoint::max();
  const double prompt_ms = known ? 1e3 * seconds_between(begin_, first_token_) : 0.0;
  const double predicted_ms =
      known ? std::max(0.0, 1e3 * seconds_between(first_token_, last_token_)) : 0.0;
  const int64_t prompt_n = usage.prompt_tokens - usage.cached_tokens;
  const int64_t steps = std::max<int64_t>(0, usage.completion_tokens - num_sequences);
  const auto ratio = [](double a, double b) { return b > 0.0 ? a / b : 0.0; };
  json::object out;
  out["cache_n"] = usage.cached_tokens;
  out["prompt_n"] = prompt_n;
  out["prompt_ms"] = prompt_ms;
  out["prompt_per_token_ms"] = ratio(prompt_ms, static_cast<double>(prompt_n));
  out["prompt_per_second"] = ratio(1e3 * static_cast<double>(prompt_n), prompt_ms);
  out["predicted_n"] = usage.completion_tokens;
  out["predicted_ms"] = predicted_ms;
  out["predicted_per_token_ms"] = ratio(predicted_ms, static_cast<double>(steps));
  out["predicted_per_second"] = ratio(1e3 * static_cast<double>(steps), predicted_ms);
  return out;
}

}  // namespace donar::server
