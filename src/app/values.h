// Text of the command line to values: sizes, dtypes, ranges. Errors name what was expected.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"

namespace donar::app {

Result<int64_t> parse_integer(std::string_view text, int64_t low,
                              int64_t high = std::numeric_limits<int64_t>::max());
Result<double> parse_number(std::string_view text, double low, double high);
// vLLM's sizes: 32k = 32,000, 32K = 32,768, 1.5m, 2G; k, m, g, t are decimal, K, M, G, T binary.
Result<int64_t> parse_human_size(std::string_view text);
Result<bool> parse_bool(std::string_view text);
// float32, float16, bfloat16 with vLLM's other spellings (float, half, fp32, bf16, ...); nullopt:
// auto.
Result<std::optional<DType>> parse_dtype(std::string_view text);
// Values of a list flag: a b c, or one JSON array of strings.
Result<std::vector<std::string>> parse_list(const std::vector<std::string>& values);

// The candidate that `word` most likely meant; empty if none is close.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace donar::app
