#include "base/json.h"

#include <boost/json/src.hpp>  // the one translation unit that compiles Boost.JSON

namespace donar {

Result<json::value> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    return fail(ErrorCode::kPayloadTooLarge, "JSON of {} bytes is over the limit of {}",
                text.size(), limits.max_bytes);
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::stream_parser parser({}, options);
  json::error_code error;
  const size_t consumed = parser.write_some(text.data(), text.size(), error);
  if (error == json::error::too_deep)
    return fail(ErrorCode::kPayloadTooLarge, "JSON is nested deeper than {} levels",
                limits.max_depth);
  if (!error) parser.finish(error);
  if (error)
    return fail(ErrorCode::kInvalidArgument, "malformed JSON at byte {}: {}", consumed,
                error.message());
  if (consumed != text.size())
    return fail(ErrorCode::kInvalidArgument, "malformed JSON: text after the value at byte {}",
                consumed);
  return parser.release();
}

}  // namespace donar
