// Types of request fields, one function each.
#include "server/field_reader.h"

#include <cmath>

#include "base/log.h"
#include "server/json_text.h"

namespace donar::server {
namespace {

std::optional<int64_t> to_integer(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) {
    const double number = value.get_double();
    if (std::abs(number) < 9e15 && number == std::floor(number))
      return static_cast<int64_t>(number);
  }
  return std::nullopt;  // a uint64 here is beyond int64
}

std::string shown(const json::value& value) {
  std::string text = to_json_text(value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

bool means_nothing(const json::value& value) {
  if (value.is_bool()) return !value.get_bool();
  if (value.is_string()) return value.get_string().empty();
  if (value.is_array()) return value.get_array().empty();
  if (value.is_object()) return value.get_object().empty();
  return false;
}

}  // namespace

std::optional<std::vector<int32_t>> to_token_ids(const json::array& array) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (const json::value& item : array) {
    const auto id = to_integer(item);
    if (!id || *id < 0 || *id > INT32_MAX) return std::nullopt;
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

const json::value* FieldReader::find(std::string_view name) {
  known_.insert(name);
  const json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void FieldReader::fail(std::string_view name, std::string message) {
  if (!error_) error_ = Error{ErrorCode::kInvalidArgument, std::move(message), std::string(name)};
}

std::optional<bool> FieldReader::boolean(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  fail(name, fmt::format("{} must be true or false, got {}", name, shown(*value)));
  return std::nullopt;
}

std::optional<int64_t> FieldReader::integer(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (const auto number = to_integer(*value)) return number;
  fail(name, fmt::format("{} must be an integer, got {}", name, shown(*value)));
  return std::nullopt;
}

std::optional<double> FieldReader::number(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const double number = value->to_number<double>();
    if (std::isfinite(number)) return number;
  }
  fail(name, fmt::format("{} must be a finite number, got {}", name, shown(*value)));
  return std::nullopt;
}

std::optional<std::string> FieldReader::string(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  fail(name, fmt::format("{} must be a string, got {}", name, shown(*value)));
  return std::nullopt;
}

std::optional<std::vector<std::string>> FieldReader::strings(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{std::string(value->get_string())};
  if (value->is_array()) {
    std::vector<std::string> list;
    for (const json::value& item : value->get_array()) {
      if (!item.is_string()) break;
      list.emplace_back(item.get_string());
    }
    if (list.size() == value->get_array().size()) return list;
  }
  fail(name, fmt::format("{} must be a string or a list of strings, got {}", name, shown(*value)));
  return std::nullopt;
}

std::optional<std::vector<int32_t>> FieldReader::token_ids(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_array())
    if (auto ids = to_token_ids(value->get_array())) return ids;
  fail(name, fmt::format("{} must be a list of token ids, got {}", name, shown(*value)));
  return std::nullopt;
}

const json::array* FieldReader::array(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (value->is_array()) return &value->get_array();
  fail(name, fmt::format("{} must be a list, got {}", name, shown(*value)));
  return nullptr;
}

const json::object* FieldReader::object(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (value->is_object()) return &value->get_object();
  fail(name, fmt::format("{} must be an object, got {}", name, shown(*value)));
  return nullptr;
}

void FieldReader::ignore(std::initializer_list<std::string_view> names) {
  known_.insert(names.begin(), names.end());
}

void FieldReader::refuse(std::initializer_list<std::string_view> names, std::string_view reason) {
  for (const std::string_view name : names) {
    const json::value* value = find(name);
    if (value == nullptr || means_nothing(*value)) continue;
    fail(name, fmt::format("{} is not supported{}{}", name, reason.empty() ? "" : ": ", reason));
  }
}

std::vector<std::string_view> FieldReader::unknown() const {
  std::vector<std::string_view> names;
  for (const auto& member : object_)
    if (!known_.contains(member.key())) names.push_back(member.key());
  return names;
}

void WarnOnce::warn(std::string_view key, std::string_view message) {
  {
    std::lock_guard lock(mutex_);
    if (said_.size() >= kMaxKeys || !said_.emplace(key).second) return;
  }
  log_line(LogLevel::kWarn, message);
}

}  // namespace donar::server
