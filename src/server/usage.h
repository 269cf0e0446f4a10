// What a request has cost: OpenAI's usage object, and llama.cpp's timings, from which clients show
// tok/s.
#pragma once

#include "base/clock.h"
#include "base/json.h"
#include "engine/request.h"

namespace donar::server {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;  // all choices, end tokens included
};

json::object usage_json(const Usage& usage);

// Several prompts of one request are timed from the first one's start to the last one's end.
class Timings {
 public:
  void add(const engine::RequestTiming& timing);
  json::object to_json(const Usage& usage, int num_sequences) const;

 private:
  TimePoint begin_ = TimePoint::max();
  TimePoint first_token_ = TimePoint::max();
  TimePoint last_token_{};
};

}  // namespace donar::server
