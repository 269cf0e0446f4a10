#include "app/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/json.h"

namespace donar::app {
namespace {

template <class T>
std::optional<T> from_text(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

Result<int64_t> parse_integer(std::string_view text, int64_t low, int64_t high) {
  const std::optional<int64_t> value = from_text<int64_t>(text);
  if (value && *value >= low && *value <= high) return *value;
  if (high == std::numeric_limits<int64_t>::max())
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a whole number of at least {}", text,
                low);
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a whole number from {} to {}", text, low,
              high);
}

Result<double> parse_number(std::string_view text, double low, double high) {
  const std::optional<double> value = from_text<double>(text);
  if (value && *value >= low && *value <= high) return *value;
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a number from {} to {}", text, low, high);
}

Result<int64_t> parse_human_size(std::string_view text) {
  constexpr std::string_view kLetters = "kmgt";
  double scale = 1.0;
  std::string_view digits = text;
  if (!text.empty()) {
    const char letter = text.back();
    const bool binary = letter >= 'A' && letter <= 'Z';
    const size_t power = kLetters.find(binary ? static_cast<char>(letter - 'A' + 'a') : letter);
    if (power != kLetters.npos) {
      scale = std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
      digits.remove_suffix(1);
    }
  }
  const std::optional<double> value = from_text<double>(digits);
  const double scaled = value.value_or(-1.0) * scale;
  if (!(scaled >= 0.0 && scaled < 9e18) || scaled != std::floor(scaled))
    return fail(ErrorCode::kInvalidArgument,
                "\"{}\" is not a size; write 4096, 32k (32,000) or 32K (32,768)", text);
  return static_cast<int64_t>(scaled);
}

Result<bool> parse_bool(std::string_view text) {
  const std::string word = lower(text);
  if (word == "true" || word == "1" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "0" || word == "no" || word == "off") return false;
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is neither true nor false", text);
}

Result<std::optional<DType>> parse_dtype(std::string_view text) {
  const std::string word = lower(text);
  if (word == "auto") return std::optional<DType>();
  if (word == "bfloat16" || word == "bf16") return std::optional(DType::kBF16);
  if (word == "float16" || word == "half" || word == "fp16" || word == "f16")
    return std::optional(DType::kF16);
  if (word == "float32" || word == "float" || word == "fp32" || word == "f32")
    return std::optional(DType::kF32);
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not one of auto, bfloat16, float16, float32",
              text);
}

Result<std::vector<std::string>> parse_list(const std::vector<std::string>& values) {
  std::vector<std::string> out;
  for (const std::string& value : values) {
    if (!value.starts_with('[')) {
      out.push_back(value);
      continue;
    }
    Result<json::value> parsed = parse_json(value);
    if (!parsed) return forward_error(parsed);
    if (!parsed->is_array())
      return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a JSON array", value);
    for (const json::value& item : parsed->get_array()) {
      if (!item.is_string())
        return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a JSON array of strings", value);
      out.emplace_back(item.get_string());
    }
  }
  return out;
}

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace donar::app
