// Token events to text, with stop strings.
#include "server/choice_text.h"

#include <algorithm>

namespace donar::server {
namespace {

// Enough tokens to know whether a space leads the text that follows.
constexpr size_t kPrimeTokens = 8;

}  // namespace

ChoiceText::ChoiceText(const text::Tokenizer& tokenizer, const CommonRequest& request,
                       std::span<const int32_t> prompt)
    : decoder_(tokenizer, request.skip_special_tokens),
      matcher_(request.stop, request.include_stop_str_in_output),
      has_stops_(!request.stop.empty()),
      include_stop_(request.include_stop_str_in_output),
      min_tokens_(request.sampling.min_tokens) {
  decoder_.prime(prompt.last(std::min(prompt.size(), kPrimeTokens)));
}

// Text of the first min_tokens tokens cannot be part of a stop string.
void ChoiceText::take_text(std::string text, ChoiceDelta& delta) {
  if (has_stops_ && num_tokens_ > min_tokens_) {
    delta.text += matcher_.push(text);
  } else {
    delta.text += text;
  }
  if (!matcher_.matched()) return;
  stopped_by_text_ = true;
  finish_reason_ = "stop";
  stop_reason_ = json::value(*matcher_.matched());
}

void ChoiceText::accept(engine::TokenEvent event, ChoiceDelta& delta) {
  for (size_t i = 0; i < event.tokens.size() && !finished(); ++i) {
    const bool is_end = event.ended_by_token && i + 1 == event.tokens.size();
    ++num_tokens_;
    delta.tokens.push_back(event.tokens[i]);
    if (i < event.logprobs.size()) delta.logprobs.push_back(std::move(event.logprobs[i]));
    if (!is_end || include_stop_) take_text(decoder_.push(event.tokens[i]), delta);
  }
  if (finished() || event.finish == engine::FinishReason::kNone) return;
  take_text(decoder_.flush(), delta);
  if (finished()) {
    stopped_by_text_ = false;  // the engine has ended it already
    return;
  }
  delta.text += matcher_.flush();
  finish_reason_ = event.finish == engine::FinishReason::kLength ? "length" : "stop";
  if (event.stop_token) stop_reason_ = *event.stop_token;
}

}  // namespace donar::server
