// Python's str() and repr(). Characters keep the trust of the string that they come from; brackets
// and digits that of their value.
#include "text/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/object.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

void append_string_repr(Text& out, const Text& text, Budget& budget) {
  budget.check_text(out.size() + text.size());
  const std::string_view bytes = text.view();
  const bool has_single = bytes.find('\'') != std::string_view::npos;
  const char quote = has_single && bytes.find('"') == std::string_view::npos ? '"' : '\'';
  const std::string_view quote_text(&quote, 1);
  out.append(quote_text, false);
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = decode_at(bytes, at);
    const bool untrusted = text.untrusted_at(at);
    if (c.value == '\\' || c.value == static_cast<unsigned char>(quote)) {
      out.append("\\", untrusted);
      out.append(bytes.substr(at, 1), untrusted);
    } else if (c.value == '\n') {
      out.append("\\n", untrusted);
    } else if (c.value == '\r') {
      out.append("\\r", untrusted);
    } else if (c.value == '\t') {
      out.append("\\t", untrusted);
    } else if (is_printable(c.value)) {
      out.append(text, at, at + c.bytes);
    } else if (c.value < 0x100) {
      out.append(fmt::format("\\x{:02x}", static_cast<unsigned>(c.value)), untrusted);
    } else if (c.value < 0x10000) {
      out.append(fmt::format("\\u{:04x}", static_cast<unsigned>(c.value)), untrusted);
    } else {
      out.append(fmt::format("\\U{:08x}", static_cast<unsigned>(c.value)), untrusted);
    }
    at += c.bytes;
  }
  out.append(quote_text, false);
}

void append_items(Text& out, const Value& value, Budget& budget, std::string_view open,
                  std::string_view close) {
  const bool untrusted = value.untrusted();
  out.append(open, untrusted);
  bool first = true;
  for (const Value& item : value.as_list().items) {
    if (!first) out.append(", ", untrusted);
    first = false;
    append_repr(out, item, budget);
  }
  out.append(close, untrusted);
}

void append_list_repr(Text& out, const Value& value, Budget& budget) {
  const List& list = value.as_list();
  switch (list.sequence) {
    case Sequence::kList:
      return append_items(out, value, budget, "[", "]");
    case Sequence::kTuple:
      return append_items(out, value, budget, "(", list.items.size() == 1 ? ",)" : ")");
    case Sequence::kKeys:
      return append_items(out, value, budget, "dict_keys([", "])");
    case Sequence::kValues:
      return append_items(out, value, budget, "dict_values([", "])");
    case Sequence::kItems:
      return append_items(out, value, budget, "dict_items([", "])");
    case Sequence::kRange:
      return out.append(list.range_text, false);
    case Sequence::kGenerator:
      return out.append("<generator object>", false);
  }
}

void append_dict_repr(Text& out, const Value& value, Budget& budget) {
  const bool untrusted = value.untrusted();
  out.append("{", untrusted);
  bool first = true;
  for (const auto& [key, item] : value.as_dict().entries) {
    if (!first) out.append(", ", untrusted);
    first = false;
    append_repr(out, key, budget);
    out.append(": ", untrusted);
    append_repr(out, item, budget);
  }
  out.append("}", untrusted);
}

}  // namespace

std::string int_repr(Int value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  std::string digits;
  for (; value != 0; value /= 10) {
    const int digit = static_cast<int>(value % 10);
    digits += static_cast<char>('0' + (digit < 0 ? -digit : digit));
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string text(buffer, end);  // d.ddde+XX with the fewest digits that read back
  const size_t mark = text.find('e');
  const int exponent = std::atoi(text.c_str() + mark + 1);
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed_end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string fixed(buffer, fixed_end);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

void append_repr(Text& out, const Value& value, Budget& budget) {
  const Budget::Nest nest(budget);
  budget.step();
  budget.check_text(out.size());
  switch (value.kind()) {
    case Kind::kUndefined:
      return out.append("Undefined", false);
    case Kind::kNone:
      return out.append("None", value.untrusted());
    case Kind::kBool:
      return out.append(value.as_bool() ? "True" : "False", value.untrusted());
    case Kind::kInt:
      return out.append(int_repr(value.as_int()), value.untrusted());
    case Kind::kFloat:
      return out.append(float_repr(value.as_double()), value.untrusted());
    case Kind::kString:
      if (value.markup()) out.append("Markup(", false);
      append_string_repr(out, value.text(), budget);
      if (value.markup()) out.append(")", false);
      return;
    case Kind::kList:
      return append_list_repr(out, value, budget);
    case Kind::kDict:
      return append_dict_repr(out, value, budget);
    case Kind::kObject:
      return value.as_object()->append_repr(out, budget);
  }
}

void append_str(Text& out, const Value& value, Budget& budget) {
  if (value.is(Kind::kUndefined)) return;
  if (value.is(Kind::kString)) {
    budget.check_text(out.size() + value.text().size());
    out.append(value.text());
    return;
  }
  append_repr(out, value, budget);
}

Text to_text(const Value& value, Budget& budget) {
  if (value.is(Kind::kString)) return value.text();
  Text out;
  append_str(out, value, budget);
  budget.text(out.size());
  return out;
}

}  // namespace donar::text::jinja
