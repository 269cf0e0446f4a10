// JSON of requests, replies and templates (Boost.JSON: keeps key order). Every parse has limits.
// Large trusted-shape files (tokenizer.json, safetensors headers) go through simdjson in their own
// module instead.
#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <string_view>

#include "base/error.h"

namespace donar {

namespace json = boost::json;

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  size_t max_depth = 64;
};

// kInvalidArgument with the byte offset for malformed text, kPayloadTooLarge beyond a limit.
// Duplicate keys: the last one wins.
Result<json::value> parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace donar
