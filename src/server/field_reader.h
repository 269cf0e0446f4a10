// Reads the fields of a request's JSON object with their types. null counts as absent. The first
// thing that is wrong is kept and the rest read on, so that parsing code is a plain list of fields.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace donar::server {

class FieldReader {
 public:
  explicit FieldReader(const json::object& object) : object_(object) {}

  // The value, or null if it is absent or JSON's null. Every name that is asked for counts as
  // known.
  const json::value* find(std::string_view name);

  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name);  // 5 and 5.0
  std::optional<double> number(std::string_view name);    // finite
  std::optional<std::string> string(std::string_view name);
  std::optional<std::vector<std::string>> strings(
      std::string_view name);  // a string is a list of one
  std::optional<std::vector<int32_t>> token_ids(std::string_view name);
  const json::array* array(std::string_view name);
  const json::object* object(std::string_view name);

  // Known, without effect on the answer.
  void ignore(std::initializer_list<std::string_view> names);
  // Known, but nothing here can honour it: any value but null, false, "" and an empty list or
  // object is an error.
  void refuse(std::initializer_list<std::string_view> names, std::string_view reason);

  void fail(std::string_view name, std::string message);
  const std::optional<Error>& error() const { return error_; }
  std::vector<std::string_view> unknown() const;  // fields that nobody asked for

 private:
  const json::object& object_;
  std::unordered_set<std::string_view> known_;
  std::optional<Error> error_;
};

// Says something once per name and process. Thread-safe; remembers a bounded number of names.
class WarnOnce {
 public:
  void warn(std::string_view key, std::string_view message);

 private:
  static constexpr size_t kMaxKeys = 256;
  std::mutex mutex_;
  std::unordered_set<std::string> said_;
};

// An id array whose elements are integers from 0 to 2^31-1; nullopt if one is not.
std::optional<std::vector<int32_t>> to_token_ids(const json::array& array);

}  // namespace donar::server
