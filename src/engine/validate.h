// What submit refuses before a request reaches the engine thread: everything out of range, with the
// field at fault.
#pragma once

#include <cstdint>

#include "engine/request.h"

namespace donar::engine {

inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxLogprobs = 20;
inline constexpr size_t kMaxBadWords = 16384;  // of one request

struct RequestLimits {
  int64_t max_model_len = 0;  // tokens of prompt and output together
  int64_t vocab_size = 0;     // ids that exist; 0: unknown
};

// kInvalidArgument with Error::param set. Thread-safe.
Result<void> validate_request(const Request& request, const RequestLimits& limits);

}  // namespace donar::engine
