// Typed access to the keys of config.json and of GGUF metadata. A key that is there but has a wrong
// type or an impossible value is an error that names file, key, expected and found; the first one
// sticks, so that a family reads its keys in a row and asks once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "model/checkpoint.h"

namespace donar::model::arch {

class Keys {
 public:
  explicit Keys(std::string source) : source_(std::move(source)) {}
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  const std::string& source() const { return source_; }
  bool failed() const { return error_.has_value(); }
  const Error& error() const { return *error_; }
  template <class... Args>
  void fail_with(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    if (!error_)
      error_ = Error{code, source_ + ": " + fmt::format(format, std::forward<Args>(args)...), {}};
  }
  void adopt_error(const Keys& other) {  // of an object inside this one
    if (!error_ && other.error_) error_ = other.error_;
  }

 protected:
  ~Keys() = default;

 private:
  std::string source_;  // the file, for messages
  std::optional<Error> error_;
};

// An object of config.json. A key whose value is null counts as absent.
class JsonKeys : public Keys {
 public:
  // `object` must outlive this. `prefix` is put before key names in messages: "rope_scaling.".
  JsonKeys(const json::object& object, std::string source, std::string prefix = {})
      : Keys(std::move(source)), object_(object), prefix_(std::move(prefix)) {}

  const json::value* find(std::string_view key) const;  // nullptr: absent or null
  bool present(std::string_view key) const { return object_.contains(key); }  // null counts
  std::optional<int64_t> integer(std::string_view key);
  std::optional<double> number(std::string_view key);
  std::optional<bool> boolean(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  const json::object* object(std::string_view key);
  const json::array* list(std::string_view key);
  int64_t required_integer(std::string_view key);

 private:
  const json::object& object_;
  std::string prefix_;
};

// GGUF metadata; a key that begins with a dot belongs to the architecture: ".block_count" ->
// "llama.block_count".
class GgufKeys : public Keys {
 public:
  GgufKeys(const Checkpoint& checkpoint, std::string architecture)
      : Keys(checkpoint.path.string()),
        checkpoint_(checkpoint),
        architecture_(std::move(architecture)) {}

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const std::string& architecture() const { return architecture_; }
  const GgufValue* find(std::string_view key) const;
  std::optional<int64_t> integer(
      std::string_view key);  // an array of equal values counts as that value
  std::optional<double> number(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  int64_t required_integer(std::string_view key);

 private:
  std::string full_name(std::string_view key) const;

  const Checkpoint& checkpoint_;
  std::string architecture_;
};

}  // namespace donar::model::arch
