// Binds the arguments of a call to named parameters, as Python does for its own functions.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace donar::text::jinja {

class Arguments {
 public:
  // Raises for surplus, unknown and doubled arguments. The views of `names` must be literals.
  Arguments(std::string_view function, const Args& args,
            std::initializer_list<std::string_view> names);

  bool has(size_t index) const { return values_[index] != nullptr; }
  const Value& operator[](size_t index) const { return *values_[index]; }  // only if has(index)
  const Value& required(size_t index) const;
  Int integer(size_t index, Int fallback) const;  // raises for anything but an integer
  bool flag(size_t index, bool fallback) const;   // truth of the argument
  const Text& text(size_t index) const;           // raises for anything but a string

 private:
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace donar::text::jinja
