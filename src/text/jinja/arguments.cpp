// Argument binding and the checks that many functions share.
#include "text/jinja/arguments.h"

#include <algorithm>

#include "text/jinja/operators.h"

namespace donar::text::jinja {

Arguments::Arguments(std::string_view function, const Args& args,
                     std::initializer_list<std::string_view> names)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  if (args.positional.size() > names_.size())
    raise("{}() takes at most {} arguments, not {}", function, names_.size(),
          args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto place = std::find(names_.begin(), names_.end(), name);
    if (place == names_.end()) raise("{}() has no parameter '{}'", function, name);
    const Value*& slot = values_[static_cast<size_t>(place - names_.begin())];
    if (slot != nullptr) raise("{}() got two values for '{}'", function, name);
    slot = &value;
  }
}

const Value& Arguments::required(size_t index) const {
  if (!has(index)) raise("{}() misses the argument '{}'", function_, names_[index]);
  return *values_[index];
}

Int Arguments::integer(size_t index, Int fallback) const {
  if (!has(index)) return fallback;
  const Value& value = *values_[index];
  if (!value.is_integral())
    raise("{}(): '{}' must be an integer, not {}", function_, names_[index], value.type_name());
  return value.as_int();
}

bool Arguments::flag(size_t index, bool fallback) const {
  return has(index) ? truth(*values_[index]) : fallback;
}

const Text& Arguments::text(size_t index) const {
  const Value& value = required(index);
  if (!value.is(Kind::kString))
    raise("{}(): '{}' must be a string, not {}", function_, names_[index], value.type_name());
  return value.text();
}

}  // namespace donar::text::jinja
