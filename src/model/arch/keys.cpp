// Reading single keys of config.json and GGUF metadata.
#include "model/arch/keys.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <limits>

namespace donar::model::arch {
namespace {

std::string shown(const json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = json::serialize(value);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

std::optional<int64_t> as_integer(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) {  // some writers store 32768 as 32768.0
    const double number = value.get_double();
    if (std::abs(number) < 9.0e15 && number == std::floor(number))
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

}  // namespace

const json::value* JsonKeys::find(std::string_view key) const {
  const json::value* value = object_.if_contains(key);
  return value && !value->is_null() ? value : nullptr;
}

std::optional<int64_t> JsonKeys::integer(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return std::nullopt;
  const std::optional<int64_t> result = as_integer(*value);
  if (!result)
    fail_with(ErrorCode::kDataLoss, "{}{}: expected a whole number, found {}", prefix_, key,
              shown(*value));
  return result;
}

std::optional<double> JsonKeys::number(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_number()) return value->to_number<double>();
  fail_with(ErrorCode::kDataLoss, "{}{}: expected a number, found {}", prefix_, key, shown(*value));
  return std::nullopt;
}

std::optional<bool> JsonKeys::boolean(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  fail_with(ErrorCode::kDataLoss, "{}{}: expected true or false, found {}", prefix_, key,
            shown(*value));
  return std::nullopt;
}

std::optional<std::string> JsonKeys::text(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  fail_with(ErrorCode::kDataLoss, "{}{}: expected a string, found {}", prefix_, key, shown(*value));
  return std::nullopt;
}

const json::object* JsonKeys::object(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return nullptr;
  if (value->is_object()) return &value->get_object();
  fail_with(ErrorCode::kDataLoss, "{}{}: expected an object, found {}", prefix_, key,
            shown(*value));
  return nullptr;
}

const json::array* JsonKeys::list(std::string_view key) {
  const json::value* value = find(key);
  if (!value) return nullptr;
  if (value->is_array()) return &value->get_array();
  fail_with(ErrorCode::kDataLoss, "{}{}: expected a list, found {}", prefix_, key, shown(*value));
  return nullptr;
}

int64_t JsonKeys::required_integer(std::string_view key) {
  const std::optional<int64_t> value = integer(key);
  if (!value) fail_with(ErrorCode::kDataLoss, "{}{} is missing", prefix_, key);
  return value.value_or(0);
}

std::string GgufKeys::full_name(std::string_view key) const {
  return key.starts_with('.') ? architecture_ + std::string(key) : std::string(key);
}

const GgufValue* GgufKeys::find(std::string_view key) const {
  const auto found = checkpoint_.metadata.find(full_name(key));
  return found == checkpoint_.metadata.end() ? nullptr : &found->second;
}

std::optional<int64_t> GgufKeys::integer(std::string_view key) {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(value);
      number && *number <= uint64_t{std::numeric_limits<int64_t>::max()})
    return static_cast<int64_t>(*number);
  if (const auto* list = std::get_if<std::vector<int64_t>>(value)) {
    if (!list->empty() && std::all_of(list->begin(), list->end(),
                                      [&](int64_t item) { return item == list->front(); }))
      return list->front();
    fail_with(ErrorCode::kUnsupported,
              "{} differs between layers, which is not supported yet for this family",
              full_name(key));
    return std::nullopt;
  }
  fail_with(ErrorCode::kDataLoss, "{}: expected a whole number", full_name(key));
  return std::nullopt;
}

std::optional<double> GgufKeys::number(std::string_view key) {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  fail_with(ErrorCode::kDataLoss, "{}: expected a number", full_name(key));
  return std::nullopt;
}

std::optional<std::string> GgufKeys::text(std::string_view key) {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  fail_with(ErrorCode::kDataLoss, "{}: expected a string", full_name(key));
  return std::nullopt;
}

int64_t GgufKeys::required_integer(std::string_view key) {
  const std::optional<int64_t> value = integer(key);
  if (!value) fail_with(ErrorCode::kDataLoss, "metadata key {} is missing", full_name(key));
  return value.value_or(0);
}

}  // namespace donar::model::arch
