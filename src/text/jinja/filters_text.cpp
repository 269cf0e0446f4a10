// Filters that give text.
#include <algorithm>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/json_dump.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

Value with_case(Interpreter& run, const Value& value, std::string_view name, const Args& args,
                Case to) {
  Arguments(name, args, {});
  return Value::string(change_case(to_text(value, run.budget()), to, run.budget()), value.markup());
}

Value upper_filter(Interpreter& run, const Value& value, Args& args) {
  return with_case(run, value, "upper", args, Case::kUpper);
}
Value lower_filter(Interpreter& run, const Value& value, Args& args) {
  return with_case(run, value, "lower", args, Case::kLower);
}
Value capitalize_filter(Interpreter& run, const Value& value, Args& args) {
  return with_case(run, value, "capitalize", args, Case::kCapitalize);
}

// Unlike str.title, words begin only after blanks, hyphens and opening brackets.
Value title_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("title", args, {});
  const Text text = to_text(value, run.budget());
  const std::string_view bytes = text.view();
  Text out;
  bool word_begins = true;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = decode_at(bytes, at);
    out.append(word_begins ? upper(c.value) : lower(c.value), text.untrusted_at(at));
    word_begins = is_space(c.value) ||
                  std::string_view("-({[<").find(
                      static_cast<char>(c.value < 0x80 ? c.value : 'a')) != std::string_view::npos;
    at += c.bytes;
  }
  run.budget().text(out.size());
  return Value::string(std::move(out), value.markup());
}

Value trim_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("trim", args, {"chars"});
  std::optional<std::string_view> characters;
  if (arguments.has(0) && !arguments[0].is(Kind::kNone)) characters = arguments.text(0).view();
  return Value::string(strip(to_text(value, run.budget()), characters, true, true), value.markup());
}

Value replace_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("replace", args, {"old", "new", "count"});
  const Text from = to_text(arguments.required(0), run.budget());
  const Text to = to_text(arguments.required(1), run.budget());
  const bool limited = arguments.has(2) && !arguments[2].is(Kind::kNone);
  const Int limit = limited ? std::clamp(arguments.integer(2, -1), Int{-1}, Int{1} << 60) : -1;
  return Value::string(replace(to_text(value, run.budget()), from.view(), to,
                               static_cast<int64_t>(limit), run.budget()));
}

Value string_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("string", args, {});
  return value.is(Kind::kString) ? value : Value::string(to_text(value, run.budget()));
}

Value safe_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("safe", args, {});
  return Value::string(to_text(value, run.budget()), /*markup=*/true);
}

Value escape_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("escape", args, {});
  if (value.markup()) return value;
  return Value::string(escape_html(to_text(value, run.budget()), run.budget()), /*markup=*/true);
}

Value indent_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("indent", args, {"width", "first", "blank"});
  if (!value.is(Kind::kString)) raise("indent needs a string, not {}", value.type_name());
  Text indention;
  if (arguments.has(0) && arguments[0].is(Kind::kString)) {
    indention = arguments.text(0);
  } else {
    const Int width = std::clamp(arguments.integer(0, 4), Int{0}, Int{1} << 40);
    run.budget().text(static_cast<size_t>(width));
    indention = Text(std::string(static_cast<size_t>(width), ' '));
  }
  const bool blank = arguments.flag(2, false);
  Text padded = value.text();
  padded.append(
      "\n", false);  // as Jinja does it: a final newline of the text then counts as an empty line
  Text out;
  bool first_line = true;
  for (const Text& line : split_lines(padded, /*keep_ends=*/false, run.budget())) {
    run.budget().check_text(out.size() + line.size() + indention.size() + 1);
    if (!first_line) out.append("\n", value.text().any_untrusted());
    if (first_line ? arguments.flag(1, false) : blank || !line.empty()) out.append(indention);
    out.append(line);
    first_line = false;
  }
  run.budget().text(out.size());
  return Value::string(std::move(out), value.markup());
}

Value center_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("center", args, {"width"});
  const Text text = to_text(value, run.budget());
  const Int size = static_cast<Int>(count_code_points(text.view()));
  const Int width = std::min(arguments.integer(0, 80), Int{1} << 40);
  if (width <= size) return Value::string(text, value.markup());
  const size_t missing = static_cast<size_t>(width - size);
  const size_t left = missing / 2 + (missing & static_cast<size_t>(width) & 1);
  return Value::string(pad(text, left, missing - left, " ", run.budget()), value.markup());
}

Value truncate_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("truncate", args, {"length", "killwords", "end", "leeway"});
  const Text end = arguments.has(2) ? arguments.text(2) : Text("...");
  const Int length = arguments.integer(0, 255);
  const Int leeway =
      arguments.has(3) && !arguments[3].is(Kind::kNone) ? arguments.integer(3, 5) : 5;
  const Int end_size = static_cast<Int>(count_code_points(end.view()));
  if (length < end_size)
    raise("truncate: the length {} is less than that of the end", int_repr(length));
  if (leeway < 0) raise("truncate: the leeway is negative");
  if (jinja::length(value) <= length + leeway) return value;
  if (!value.is(Kind::kString)) raise("truncate needs a string, not {}", value.type_name());
  const Text& text = value.text();
  Text out = text.slice(0, byte_offset(text.view(), static_cast<size_t>(length - end_size)));
  if (!arguments.flag(1, false)) out = split_right(out, " ", 1, run.budget()).front();
  out.append(end);
  return Value::string(std::move(out), value.markup());
}

Value wordcount_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("wordcount", args, {});
  const Text text = to_text(value, run.budget());
  Int count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text.view(), at);
    const bool word = c.value == '_' || is_alphabetic(c.value) || is_decimal(c.value);
    if (word && !inside) ++count;
    inside = word;
    at += c.bytes;
  }
  return Value::integer(count);
}

Text quote_url(const Text& text, bool in_query) {
  Text out;
  for (size_t at = 0; at < text.size(); ++at) {
    const unsigned char c = static_cast<unsigned char>(text.view()[at]);
    const bool plain =
        (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
        std::string_view("_.-~").find(static_cast<char>(c)) != std::string_view::npos;
    const bool untrusted = text.untrusted_at(at);
    if (plain || (c == '/' && !in_query)) {
      out.append(text.view().substr(at, 1), untrusted);
    } else if (c == ' ' && in_query) {
      out.append("+", untrusted);
    } else {
      out.append(fmt::format("%{:02X}", c), untrusted);
    }
  }
  return out;
}

Value urlencode_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("urlencode", args, {});
  Text out;
  if (value.is(Kind::kString) || (!value.is(Kind::kDict) && !value.is(Kind::kList))) {
    out = quote_url(to_text(value, run.budget()), /*in_query=*/false);
  } else {
    std::vector<Value> pairs;
    if (value.is(Kind::kDict)) {
      for (const auto& [key, item] : value.as_dict().entries)
        pairs.push_back(Value::tuple({key, item}));
    } else {
      pairs = iterate(value, run.budget());
    }
    for (const Value& pair : pairs) {
      const std::vector<Value> parts = iterate(pair, run.budget());
      if (parts.size() != 2) raise("urlencode needs pairs");
      if (!out.empty()) out.append("&", false);
      out.append(quote_url(to_text(parts[0], run.budget()), /*in_query=*/true));
      out.append("=", false);
      out.append(quote_url(to_text(parts[1], run.budget()), /*in_query=*/true));
    }
  }
  run.budget().text(out.size());
  return Value::string(std::move(out));
}

Value format_filter(Interpreter& run, const Value& value, Args& args) {
  const Value format =
      value.is(Kind::kString) ? value : Value::string(to_text(value, run.budget()));
  if (!args.named.empty()) {
    if (!args.positional.empty()) raise("format takes positional or named arguments, not both");
    Dict dict;
    for (const auto& [name, item] : args.named) dict.set(Value::string(name), item);
    return format_percent(format, Value::dict(std::move(dict)), run.budget());
  }
  return format_percent(format, Value::tuple(std::move(args.positional)), run.budget());
}

Value tojson_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = arguments.flag(0, false);
  style.sort_keys = arguments.flag(3, false);
  if (arguments.has(1) && !arguments[1].is(Kind::kNone)) {
    if (arguments[1].is(Kind::kString)) {
      style.indent = arguments.text(1).bytes();
    } else {
      const Int width = std::clamp(arguments.integer(1, 0), Int{0}, Int{100'000});
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
  }
  style.item_separator = Text(style.indent ? "," : ", ");
  style.key_separator = Text(": ");
  if (arguments.has(2) && !arguments[2].is(Kind::kNone)) {
    const std::vector<Value> separators = iterate(arguments[2], run.budget());
    if (separators.size() != 2 || !separators[0].is(Kind::kString) ||
        !separators[1].is(Kind::kString)) {
      raise("tojson: separators must be two strings");
    }
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
  }
  return Value::string(dump_json(value, style, run.budget()));
}

constexpr FilterEntry kFilters[] = {
    {"capitalize", capitalize_filter},
    {"center", center_filter},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"forceescape", escape_filter},
    {"format", format_filter},
    {"indent", indent_filter},
    {"lower", lower_filter},
    {"replace", replace_filter},
    {"safe", safe_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"truncate", truncate_filter},
    {"upper", upper_filter},
    {"urlencode", urlencode_filter},
    {"wordcount", wordcount_filter},
};

}  // namespace

const FilterEntry* find_text_filter(std::string_view name) {
  const auto found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                  [&](const FilterEntry& entry) { return entry.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace donar::text::jinja
