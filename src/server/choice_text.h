// One choice of an answer: token events in, text and tokens that may be sent out. Stop strings end
// it here.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "server/sampling_fields.h"
#include "text/tokenizer.h"

namespace donar::server {

// What is new since the last time it was sent.
struct ChoiceDelta {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<engine::PositionLogprobs>
      logprobs;  // one per token if asked for; empty inside: none (first prompt token)
  size_t num_prompt_tokens = 0;  // so many of the tokens are the echoed prompt
};

class ChoiceText {
 public:
  ChoiceText(const text::Tokenizer& tokenizer, const CommonRequest& request,
             std::span<const int32_t> prompt);

  void accept(engine::TokenEvent event, ChoiceDelta& delta);

  bool finished() const { return finish_reason_ != nullptr; }
  bool stopped_by_text() const { return stopped_by_text_; }  // the engine does not know yet
  const char* finish_reason() const {
    return finish_reason_;
  }  // "stop", "length"; null while running
  const json::value& stop_reason() const {
    return stop_reason_;
  }  // the stop string or token id; null for an end token
  int num_tokens() const { return num_tokens_; }

 private:
  void take_text(std::string text, ChoiceDelta& delta);

  text::StreamDecoder decoder_;
  text::StopMatcher matcher_;
  bool has_stops_;
  bool include_stop_;
  int min_tokens_;
  int num_tokens_ = 0;
  bool stopped_by_text_ = false;
  const char* finish_reason_ = nullptr;
  json::value stop_reason_;
};

}  // namespace donar::server
