// What one render may cost. A template is data of strangers: it may ask for endless loops,
// recursion or memory, and gets an error.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace donar::text::jinja {

struct Limits {
  size_t max_steps = 10'000'000;             // evaluated nodes, visited values
  size_t max_bytes = size_t{1} << 30;        // of all strings and lists made during the render
  size_t max_text_bytes = size_t{64} << 20;  // of one string, the output too
  size_t max_depth = 1000;  // nested evaluation: a macro's recursion takes several levels
};

constexpr size_t kMaxNesting = 200;     // of a template's own syntax
constexpr size_t kMaxValueDepth = 128;  // lists in lists

// The one exception of the engine: it ends a parse or a render and is caught in template.cpp. Line
// 0: not placed yet.
struct TemplateError {
  std::string message;
  uint32_t line = 0;
  uint32_t column = 0;
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{fmt::format(format, std::forward<Args>(args)...)};
}

class Budget {
 public:
  explicit Budget(const Limits& limits)
      : limits_(limits), steps_left_(limits.max_steps), bytes_left_(limits.max_bytes) {}

  void step(size_t count = 1) {
    if (count > steps_left_) raise("the template takes more than {} steps", limits_.max_steps);
    steps_left_ -= count;
  }
  void allocate(size_t bytes) {
    if (bytes > bytes_left_)
      raise("the template uses more than {} bytes of memory", limits_.max_bytes);
    bytes_left_ -= bytes;
  }
  // A string of that size is about to be made.
  void text(size_t bytes) {
    check_text(bytes);
    allocate(bytes);
  }
  void check_text(size_t bytes) const {
    if (bytes > limits_.max_text_bytes)
      raise("a text of the template grows over the limit of {} bytes", limits_.max_text_bytes);
  }

  class Nest {
   public:
    explicit Nest(Budget& budget) : budget_(budget) {
      if (++budget_.depth_ > budget_.limits_.max_depth) {
        --budget_.depth_;
        raise("the template nests deeper than {} levels (endless recursion?)",
              budget_.limits_.max_depth);
      }
    }
    ~Nest() { --budget_.depth_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Budget& budget_;
  };

 private:
  Limits limits_;
  size_t steps_left_;
  size_t bytes_left_;
  size_t depth_ = 0;
};

}  // namespace donar::text::jinja
