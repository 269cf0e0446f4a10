// Filters on single values: numbers, defaults, lengths, attributes, dicts.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = skip_space(text, 0);
  return text.substr(begin, trimmed_end(text, begin) - begin);
}

// Python's int(text, base); false if it raises ValueError.
bool read_int(std::string_view text, Int base, Int& value) {
  text = trimmed(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 32);
    const Int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      base = named;
      text.remove_prefix(2);
    }
  }
  if (base == 0) base = 10;
  if (text.empty() || base < 2 || base > 36) return false;
  value = 0;
  bool after_digit = false;
  for (const char c : text) {
    if (c == '_' && after_digit) {
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'                 ? c - '0'
                      : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                           : 99;
    if (digit >= base) return false;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value))
      raise("an integer of the template is too large");
    after_digit = true;
  }
  if (negative) value = -value;
  return after_digit;
}

// Python's float(text); false if it raises ValueError.
bool read_float(std::string_view text, double& value) {
  std::string digits(trimmed(text));
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  if (digits.empty() || digits.find_first_of("xXpP(") != std::string::npos) return false;
  char* end = nullptr;
  value = std::strtod(digits.c_str(), &end);
  return end == digits.c_str() + digits.size();
}

bool float_to_int(double number, Int& value) {
  if (!(std::abs(number) < 1.7e38)) return false;
  value = static_cast<Int>(number);
  return true;
}

Value int_filter(Interpreter&, const Value& value, Args& args) {
  const Arguments arguments("int", args, {"default", "base"});
  const auto done = [&](Int number) {
    return Value::integer(number).with_untrusted(value.untrusted());
  };
  Int number = 0;
  double real = 0;
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (value.is_integral()) return done(value.as_int());
  if (value.is(Kind::kFloat) && float_to_int(value.as_double(), number)) return done(number);
  if (value.is(Kind::kString)) {
    const bool untrusted = value.text().any_untrusted();
    if (read_int(value.view(), arguments.integer(1, 10), number))
      return Value::integer(number).with_untrusted(untrusted);
    if (read_float(value.view(), real) && float_to_int(real, number))
      return Value::integer(number).with_untrusted(untrusted);
  }
  return arguments.has(0) ? arguments[0] : Value::integer(0);
}

Value float_filter(Interpreter&, const Value& value, Args& args) {
  const Arguments arguments("float", args, {"default"});
  double number = 0;
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (value.is_number()) return Value::number(value.as_double()).with_untrusted(value.untrusted());
  if (value.is(Kind::kString) && read_float(value.view(), number))
    return Value::number(number).with_untrusted(value.text().any_untrusted());
  return arguments.has(0) ? arguments[0] : Value::number(0.0);
}

const Value& number(std::string_view filter, const Value& value) {
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (!value.is_number()) raise("{} needs a number, not {}", filter, value.type_name());
  return value;
}

Value abs_filter(Interpreter&, const Value& value, Args& args) {
  Arguments("abs", args, {});
  if (number("abs", value).is(Kind::kFloat))
    return Value::number(std::abs(value.as_double())).with_untrusted(value.untrusted());
  return value.as_int() < 0 ? negate(value) : plus(value);
}

// round(): half to even on the exact binary value, as printf does it.
double round_half_even(double number, int digits) {
  if (digits > 300 || std::isinf(number) || std::isnan(number)) return number;
  if (digits < 0) {
    const double scale = std::pow(10.0, -digits);
    return std::isinf(scale) ? 0.0 : std::nearbyint(number / scale) * scale;
  }
  return std::strtod(fmt::format("{:.{}f}", number, digits).c_str(), nullptr);
}

Value round_filter(Interpreter&, const Value& value, Args& args) {
  const Arguments arguments("round", args, {"precision", "method"});
  const std::string_view method =
      arguments.has(1) ? arguments.text(1).view() : std::string_view("common");
  const int digits = static_cast<int>(std::clamp(arguments.integer(0, 0), Int{-400}, Int{400}));
  number("round", value);
  double result = 0;
  if (method == "common") {
    if (value.is_integral() && digits >= 0) return plus(value);
    result = round_half_even(value.as_double(), digits);
    Int exact = 0;
    if (value.is_integral() && float_to_int(result, exact))
      return Value::integer(exact).with_untrusted(value.untrusted());
  } else if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, digits);
    const double scaled = value.as_double() * scale;
    result = (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
  } else {
    raise("round: the method must be common, ceil or floor");
  }
  return Value::number(result).with_untrusted(value.untrusted());
}

Value default_filter(Interpreter&, const Value& value, Args& args) {
  const Arguments arguments("default", args, {"default_value", "boolean"});
  const bool replace = value.is(Kind::kUndefined) || (arguments.flag(1, false) && !truth(value));
  if (!replace) return value;
  return arguments.has(0) ? arguments[0] : Value::string("");
}

Value length_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("length", args, {});
  if (value.is(Kind::kString)) run.budget().step(value.text().size() / 64);
  return Value::integer(length(value));
}

Value attr_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("attr", args, {"name"});
  const std::string name(arguments.text(0).view());
  if (value.is(Kind::kDict) &&
      method_kind(value, name) == MethodKind::kNone) {  // attributes only, never keys
    return Value::undefined(fmt::format("this dict has no attribute '{}'", name));
  }
  return run.attribute(value, name);
}

Value items_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("items", args, {});
  std::vector<Value> pairs;
  if (!value.is(Kind::kUndefined)) {
    if (!value.is(Kind::kDict)) raise("items needs a dict, not {}", value.type_name());
    run.budget().step(value.as_dict().entries.size());
    run.budget().allocate(value.as_dict().entries.size() * 4 * sizeof(Value));
    for (const auto& [key, item] : value.as_dict().entries)
      pairs.push_back(Value::tuple({key, item}).with_untrusted(value.untrusted()));
  }
  return Value::generator(std::move(pairs));
}

constexpr FilterEntry kFilters[] = {
    {"abs", abs_filter},     {"attr", attr_filter},       {"count", length_filter},
    {"d", default_filter},   {"default", default_filter}, {"float", float_filter},
    {"int", int_filter},     {"items", items_filter},     {"length", length_filter},
    {"round", round_filter},
};

}  // namespace

const FilterEntry* find_value_filter(std::string_view name) {
  const auto found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                  [&](const FilterEntry& entry) { return entry.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace donar::text::jinja
