// "%" formatting, str.format, and the numbers of both. Ranges: text of the format string and of
// string arguments keeps its own; digits have the trust of their value.
#include "text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

constexpr size_t kMaxWidth = 1'000'000;

// [[fill]align][sign][#][0][width][,][.precision][type]
struct Specification {
  std::string fill = " ";
  char align = 0;  // < > ^ =
  char sign = '-';
  bool alternate = false;
  size_t width = 0;
  char grouping = 0;
  int precision = -1;
  char type = 0;
};

size_t read_digits(std::string_view text, size_t& at) {
  size_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + static_cast<size_t>(text[at] - '0');
    if (value > kMaxWidth) raise("a width or precision over {} in a format", kMaxWidth);
  }
  return value;
}

bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

Specification parse_specification(std::string_view text) {
  Specification spec;
  size_t at = 0;
  if (!text.empty()) {
    const size_t first = decode_at(text, 0).bytes;
    if (first < text.size() && is_align(text[first])) {
      spec.fill = std::string(text.substr(0, first));
      spec.align = text[first];
      at = first + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto take = [&](std::string_view set) {
    return at < text.size() && set.find(text[at]) != std::string_view::npos ? text[at++] : '\0';
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (take("0") != '\0' && spec.align == 0) {
    spec.fill = std::string(1, '0');
    spec.align = '=';
  }
  spec.width = read_digits(text, at);
  spec.grouping = take(",_");
  if (take(".") != '\0') {
    const size_t before = at;
    spec.precision = static_cast<int>(read_digits(text, at));
    if (at == before) raise("a format misses its precision");
  }
  spec.type = at < text.size() ? text[at++] : '\0';
  if (at != text.size()) raise("malformed format '{}'", text);
  return spec;
}

std::string group(const std::string& digits, char separator) {
  if (separator == '\0') return digits;
  size_t end = digits.find_first_not_of("0123456789");
  if (end == std::string::npos) end = digits.size();
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < end && (end - i) % 3 == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string float_digits(double value, char type, int precision, bool alternate) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  if (precision > 1000) raise("a float with more than 1000 digits in a format");
  const std::string pattern = fmt::format("%{}.*{}", alternate ? "#" : "", type);
  const int digits = precision < 0 ? 6 : precision;
  const int length = std::snprintf(nullptr, 0, pattern.c_str(), digits, value);
  std::string text(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(text.data(), text.size(), pattern.c_str(), digits, value);
  text.pop_back();
  return text;
}

// No type but a precision: as 'g', but a number that is not written with an exponent has a digit
// after the point.
std::string general_digits(double value, int precision, bool alternate) {
  std::string digits = float_digits(value, 'g', precision, alternate);
  if (digits.find_first_of(".en") != std::string::npos) return digits;
  if (digits.size() < static_cast<size_t>(precision)) return digits.append(".0");
  std::string scientific = float_digits(value, 'e', precision - 1, alternate);
  const size_t exponent = scientific.find('e');
  const size_t last = scientific.find_last_not_of('0', exponent - 1);
  const size_t point = scientific.find('.');
  if (point != std::string::npos && point < exponent)
    scientific.erase(last + (scientific[last] == '.' ? 0 : 1),
                     exponent - last - (scientific[last] == '.' ? 0 : 1));
  return scientific;
}

std::string int_digits(Int value, Int base, bool capital) {  // value >= 0
  if (value == 0) return "0";
  const std::string_view digits = capital ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string text;
  for (; value > 0; value /= base) text += digits[static_cast<size_t>(value % base)];
  std::reverse(text.begin(), text.end());
  return text;
}

std::string number_digits(const Value& value, const Specification& spec, bool& negative) {
  const char type = spec.type;
  if (value.is_integral() &&
      (type == '\0' || std::string_view("bcdoxXn").find(type) != std::string_view::npos)) {
    if (spec.precision >= 0) raise("an integer has no precision in a format");
    negative = value.as_int() < 0;
    if (type == 'c') raise("the format 'c' is not supported");
    const Int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    std::string digits;
    if (base == 10) {
      digits = int_repr(value.as_int());
      if (negative) digits.erase(0, 1);
    } else {
      digits = int_digits(negative ? negate(value).as_int() : value.as_int(), base, type == 'X');
    }
    return fmt::format("{}{}", spec.alternate && base != 10 ? fmt::format("0{}", type) : "",
                       group(digits, spec.grouping));
  }
  double number = value.as_double();
  negative = std::signbit(number) && !std::isnan(number);
  number = std::abs(number);
  if (type == '\0' && spec.precision < 0) return group(float_repr(number), spec.grouping);
  if (type == '%')
    return group(float_digits(number * 100, 'f', spec.precision, spec.alternate), spec.grouping)
        .append("%");
  if (type == '\0') {
    return group(general_digits(number, std::max(spec.precision, 1), spec.alternate),
                 spec.grouping);
  }
  if (std::string_view("eEfFgGn").find(type) == std::string_view::npos)
    raise("unknown format code '{}' for a {}", type, value.type_name());
  return group(float_digits(number, type == 'n' ? 'g' : type, spec.precision, spec.alternate),
               spec.grouping);
}

Text align(Text text, const Specification& spec, char fallback, size_t sign_length,
           Budget& budget) {
  const size_t size = count_code_points(text.view());
  if (size >= spec.width) return text;
  const size_t missing = spec.width - size;
  switch (spec.align ? spec.align : fallback) {
    case '<':
      return pad(text, 0, missing, spec.fill, budget);
    case '^':
      return pad(text, missing / 2, missing - missing / 2, spec.fill, budget);
    case '=': {
      Text out = text.slice(0, sign_length);
      out.append(pad(text.slice(sign_length, text.size()), missing, 0, spec.fill, budget));
      return out;
    }
    default:
      return pad(text, missing, 0, spec.fill, budget);
  }
}

Text format_specified(const Value& value, const Specification& spec, Budget& budget) {
  const bool text_type = spec.type == 's' || (spec.type == '\0' && !value.is_number());
  if (text_type) {
    if (spec.type == 's' && !value.is(Kind::kString))
      raise("unknown format code 's' for a {}", value.type_name());
    if (spec.align == '=') raise("a string cannot be aligned with '='");
    Text text = to_text(value, budget);
    if (spec.precision >= 0)
      text = text.slice(0, byte_offset(text.view(), static_cast<size_t>(spec.precision)));
    return align(std::move(text), spec, '<', 0, budget);
  }
  if (!value.is_number()) raise("unknown format code '{}' for a {}", spec.type, value.type_name());
  bool negative = false;
  const std::string digits = number_digits(value, spec, negative);
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  return align(Text(fmt::format("{}{}", sign, digits), value.untrusted()), spec, '>', sign.size(),
               budget);
}

// One % conversion of the format string, without its %.
struct Conversion {
  Specification spec;
  bool left = false;
  bool zero = false;
  char type = 0;
};

Text convert(const Conversion& conversion, const Value& value, Budget& budget) {
  Specification spec = conversion.spec;
  spec.align = conversion.left ? '<' : '>';
  const char type = conversion.type;
  if (type == 's' || type == 'r' || type == 'a') {
    Text text;
    if (type == 's') {
      text = to_text(value, budget);
    } else {
      append_repr(text, value, budget);
    }
    if (spec.precision >= 0)
      text = text.slice(0, byte_offset(text.view(), static_cast<size_t>(spec.precision)));
    return align(std::move(text), spec, '>', 0, budget);
  }
  if (type == 'c') {
    if (value.is(Kind::kString) && count_code_points(value.view()) == 1)
      return align(value.text(), spec, '>', 0, budget);
    raise("%c needs a single character");
  }
  if (!value.is_number()) raise("%{} needs a number, not {}", type, value.type_name());
  if (conversion.zero && !conversion.left) {
    spec.fill = std::string(1, '0');
    spec.align = '=';
  }
  const bool integer =
      type == 'd' || type == 'i' || type == 'u' || type == 'x' || type == 'X' || type == 'o';
  Value number = value;
  if (integer && value.is(Kind::kFloat)) {
    if (type == 'x' || type == 'X' || type == 'o' || !(std::abs(value.as_double()) < 1e37))
      raise("%{} needs an integer", type);
    number = Value::integer(static_cast<Int>(value.as_double())).with_untrusted(value.untrusted());
  }
  if (!integer && value.is_integral())
    number = Value::number(value.as_double()).with_untrusted(value.untrusted());
  spec.type = type == 'i' || type == 'u' ? 'd' : type;
  if (integer) spec.precision = -1;
  return format_specified(number, spec, budget);
}

}  // namespace

Text format_value(const Value& value, std::string_view specification, Budget& budget) {
  if (specification.empty()) return to_text(value, budget);
  return format_specified(value, parse_specification(specification), budget);
}

Value format_percent(const Value& format, const Value& right, Budget& budget) {
  const Text& text = format.text();
  const std::string_view bytes = text.view();
  const bool is_tuple = right.is(Kind::kList) && right.as_list().sequence == Sequence::kTuple;
  const size_t available = is_tuple ? right.as_list().items.size() : 1;
  size_t used = 0;
  bool by_name = false;
  Text out;
  size_t done = 0;
  for (size_t at = bytes.find('%'); at != std::string_view::npos; at = bytes.find('%', done)) {
    out.append(text, done, at);
    ++at;
    if (at < bytes.size() && bytes[at] == '%') {
      out.append(text, at, at + 1);
      done = at + 1;
      continue;
    }
    const Value* value = nullptr;
    if (at < bytes.size() && bytes[at] == '(') {
      const size_t close = bytes.find(')', at);
      if (close == std::string_view::npos || !right.is(Kind::kDict))
        raise("%(name) in a format needs a dict");
      const std::string_view name = bytes.substr(at + 1, close - at - 1);
      value = right.as_dict().find(name);
      if (value == nullptr) raise("the format's dict has no key '{}'", name);
      by_name = true;
      at = close + 1;
    }
    Conversion conversion;
    for (; at < bytes.size(); ++at) {
      if (bytes[at] == '-') {
        conversion.left = true;
      } else if (bytes[at] == '0') {
        conversion.zero = true;
      } else if (bytes[at] == '+' || (bytes[at] == ' ' && conversion.spec.sign != '+')) {
        conversion.spec.sign = bytes[at];
      } else if (bytes[at] == '#') {
        conversion.spec.alternate = true;
      } else if (bytes[at] != ' ') {
        break;
      }
    }
    conversion.spec.width = read_digits(bytes, at);
    if (at < bytes.size() && bytes[at] == '.')
      conversion.spec.precision = static_cast<int>(read_digits(bytes, ++at));
    if (at >= bytes.size() ||
        std::string_view("sradiuxXoeEfFgGc").find(bytes[at]) == std::string_view::npos)
      raise("incomplete or unknown % in a format");
    conversion.type = bytes[at];
    if (value == nullptr) {
      if (used >= available) raise("a format has more % than arguments");
      value = is_tuple ? &right.as_list().items[used] : &right;
      ++used;
    }
    budget.step();
    const Text converted = convert(conversion, *value, budget);
    out.append(format.markup() && !value->markup() ? escape_html(converted, budget) : converted);
    budget.check_text(out.size());
    done = at + 1;
  }
  out.append(text, done, bytes.size());
  if (used < available && !by_name && !right.is(Kind::kDict) &&
      !(right.is(Kind::kList) && !is_tuple))
    raise("a format has fewer % than arguments");
  budget.text(out.size());
  return Value::string(std::move(out), format.markup());
}

}  // namespace donar::text::jinja
