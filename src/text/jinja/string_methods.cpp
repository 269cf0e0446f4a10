// Methods of Python's str that templates may call. Results keep the ranges of the string, and its
// markup where Python's Markup does.
#include <algorithm>
#include <iterator>
#include <optional>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

// Limits and counts of Python: any size fits, negative means all.
int64_t clamp_count(Int value) {
  return static_cast<int64_t>(std::clamp(value, Int{-1}, Int{1} << 60));
}

Value same_kind(Text text, const Value& self) {
  return Value::string(std::move(text), self.markup());
}

Value pieces(std::vector<Text> parts, const Value& self) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (Text& part : parts) items.push_back(same_kind(std::move(part), self));
  return Value::list(std::move(items));
}

Value strip_method(std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"chars"});
  std::optional<std::string_view> characters;
  if (arguments.has(0) && !arguments[0].is(Kind::kNone)) characters = arguments.text(0).view();
  return same_kind(strip(self.text(), characters, name != "rstrip", name != "lstrip"), self);
}

Value split_method(Interpreter& run, std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"sep", "maxsplit"});
  const int64_t limit = clamp_count(arguments.integer(1, -1));
  const bool from_right = name == "rsplit";
  if (!arguments.has(0) || arguments[0].is(Kind::kNone)) {
    return pieces(from_right ? split_blanks_right(self.text(), limit, run.budget())
                             : split_blanks(self.text(), limit, run.budget()),
                  self);
  }
  const std::string_view separator = arguments.text(0).view();
  if (separator.empty()) raise("{}(): the separator is empty", name);
  return pieces(from_right ? split_right(self.text(), separator, limit, run.budget())
                           : split(self.text(), separator, limit, run.budget()),
                self);
}

Value affix_test(std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"affix", "start", "end"});
  std::string_view text = self.view();
  if (arguments.has(1) || arguments.has(2)) {
    const Int size = static_cast<Int>(count_code_points(text));
    const auto bound = [&](size_t index, Int fallback) {
      const Int value = arguments.has(index) && arguments[index].is(Kind::kNone)
                            ? fallback
                            : arguments.integer(index, fallback);
      return value < 0 ? std::max(Int{0}, value + size) : value;
    };
    const Int start = bound(1, 0);
    const Int end = std::min(bound(2, size), size);
    if (start > size || start > end) return Value::boolean(false);
    const size_t begin = byte_offset(text, static_cast<size_t>(start));
    text = text.substr(begin, byte_offset(text.substr(begin), static_cast<size_t>(end - start)));
  }
  const bool at_start = name == "startswith";
  const auto matches = [&](const Value& affix) {
    if (!affix.is(Kind::kString)) raise("{}() needs a string, not {}", name, affix.type_name());
    return at_start ? text.starts_with(affix.view()) : text.ends_with(affix.view());
  };
  const Value& affix = arguments.required(0);
  if (affix.is(Kind::kList) && affix.as_list().sequence == Sequence::kTuple) {
    const auto& items = affix.as_list().items;
    return Value::boolean(std::any_of(items.begin(), items.end(), matches));
  }
  return Value::boolean(matches(affix));
}

// find, rfind, index, rindex, count within [start, end).
Value find_method(Interpreter& run, std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"sub", "start", "end"});
  const std::string_view sought = arguments.text(0).view();
  run.budget().step(1 + self.text().size() / 64);
  const Int size = static_cast<Int>(count_code_points(self.view()));
  const auto bound = [&](size_t index, Int fallback) {
    const Int value = arguments.has(index) && arguments[index].is(Kind::kNone)
                          ? fallback
                          : arguments.integer(index, fallback);
    return value < 0 ? std::max(Int{0}, value + size) : value;
  };
  const Int start = bound(1, 0);
  const Int end = std::min(bound(2, size), size);
  Int result = -1;
  Int count = 0;
  if (start <= end) {
    const size_t begin = byte_offset(self.view(), static_cast<size_t>(start));
    const std::string_view text = self.view().substr(
        begin, byte_offset(self.view().substr(begin), static_cast<size_t>(end - start)));
    const size_t found = name[0] == 'r' ? text.rfind(sought) : text.find(sought);
    if (found != std::string_view::npos)
      result = start + static_cast<Int>(count_code_points(text.substr(0, found)));
    if (name == "count") {
      for (size_t at = text.find(sought); at != std::string_view::npos && !sought.empty();
           at = text.find(sought, at + sought.size()))
        ++count;
      if (sought.empty()) count = static_cast<Int>(count_code_points(text)) + 1;
    }
  }
  if (name == "count") return Value::integer(count);
  if (result < 0 && (name == "index" || name == "rindex"))
    raise("{}(): '{}' is not in the string", name, sought);
  return Value::integer(result);
}

Value replace_method(Interpreter& run, const Value& self, Args& args) {
  const Arguments arguments("replace", args, {"old", "new", "count"});
  const Text to = self.markup() ? escape_html(arguments.text(1), run.budget()) : arguments.text(1);
  return same_kind(replace(self.text(), arguments.text(0).view(), to,
                           clamp_count(arguments.integer(2, -1)), run.budget()),
                   self);
}

Value join_method(Interpreter& run, const Value& self, Args& args) {
  const Arguments arguments("join", args, {"iterable"});
  const Value& iterable = arguments.required(0);
  if (iterable.is(Kind::kUndefined)) raise("{}", iterable.undefined_reason());
  Text out;
  bool first = true;
  for (const Value& item : iterate(iterable, run.budget())) {
    if (!item.is(Kind::kString))
      raise("join() needs strings, not {}: use the filter join", item.type_name());
    if (!first) out.append(self.text());
    first = false;
    out.append(self.markup() && !item.markup() ? escape_html(item.text(), run.budget())
                                               : item.text());
    run.budget().check_text(out.size());
  }
  run.budget().text(out.size());
  return same_kind(std::move(out), self);
}

Value partition_method(std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"sep"});
  const std::string_view separator = arguments.text(0).view();
  if (separator.empty()) raise("{}(): the separator is empty", name);
  const Text& text = self.text();
  const bool from_right = name == "rpartition";
  const size_t found = from_right ? text.view().rfind(separator) : text.view().find(separator);
  Text before, middle, after;
  if (found == std::string_view::npos) {
    (from_right ? after : before) = text;
  } else {
    before = text.slice(0, found);
    middle = text.slice(found, found + separator.size());
    after = text.slice(found + separator.size(), text.size());
  }
  return Value::tuple({same_kind(std::move(before), self), same_kind(std::move(middle), self),
                       same_kind(std::move(after), self)});
}

Value remove_affix_method(std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"affix"});
  const std::string_view affix = arguments.text(0).view();
  const Text& text = self.text();
  if (name == "removeprefix" && text.view().starts_with(affix))
    return same_kind(text.slice(affix.size(), text.size()), self);
  if (name == "removesuffix" && text.view().ends_with(affix))
    return same_kind(text.slice(0, text.size() - affix.size()), self);
  return self;
}

Value pad_method(Interpreter& run, std::string_view name, const Value& self, Args& args) {
  const Arguments arguments(name, args, {"width", "fillchar"});
  if (!arguments.has(0)) raise("{}() misses the argument 'width'", name);
  const std::string_view fill =
      arguments.has(1) ? arguments.text(1).view() : std::string_view(name == "zfill" ? "0" : " ");
  if (count_code_points(fill) != 1) raise("{}(): the fill must be one character", name);
  const Int size = static_cast<Int>(count_code_points(self.view()));
  const Int width = std::min(arguments.integer(0, 0), Int{1} << 40);
  if (width <= size) return self;
  const size_t missing = static_cast<size_t>(width - size);
  if (name == "ljust") return same_kind(pad(self.text(), 0, missing, fill, run.budget()), self);
  if (name == "rjust") return same_kind(pad(self.text(), missing, 0, fill, run.budget()), self);
  if (name == "zfill") {
    const size_t sign =
        !self.text().empty() && (self.view()[0] == '-' || self.view()[0] == '+') ? 1 : 0;
    Text out = self.text().slice(0, sign);
    out.append(pad(self.text().slice(sign, self.text().size()), missing, 0, "0", run.budget()));
    return same_kind(std::move(out), self);
  }
  const size_t left =
      missing / 2 + (missing & static_cast<size_t>(width) & 1);  // as CPython rounds
  return same_kind(pad(self.text(), left, missing - left, fill, run.budget()), self);
}

bool is_class(std::string_view name, std::string_view text) {
  if (text.empty()) return name == "isascii";
  bool cased = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    at += c.bytes;
    cased |= is_upper(c.value) || is_lower(c.value);
    const bool digit = is_decimal(c.value);
    const bool fits = name == "isalpha"   ? is_alphabetic(c.value)
                      : name == "isalnum" ? is_alphabetic(c.value) || digit
                      : name == "isspace" ? is_space(c.value)
                      : name == "isupper" ? !is_lower(c.value)
                      : name == "islower" ? !is_upper(c.value)
                      : name == "isascii" ? c.value < 0x80
                                          : digit;
    if (!fits) return false;
  }
  return cased || (name != "isupper" && name != "islower");
}

std::optional<Case> case_method(std::string_view name) {
  if (name == "upper") return Case::kUpper;
  if (name == "lower" || name == "casefold") return Case::kLower;
  if (name == "capitalize") return Case::kCapitalize;
  if (name == "title") return Case::kTitle;
  if (name == "swapcase") return Case::kSwap;
  return std::nullopt;
}

constexpr std::string_view kMethods[] = {
    "capitalize", "casefold",     "center",       "count",   "endswith",   "find",       "format",
    "index",      "isalnum",      "isalpha",      "isascii", "isdecimal",  "isdigit",    "islower",
    "isnumeric",  "isspace",      "isupper",      "join",    "ljust",      "lower",      "lstrip",
    "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",     "rjust",
    "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith", "strip",
    "swapcase",   "title",        "upper",        "zfill"};

}  // namespace

bool is_string_method(std::string_view name) {
  return std::find(std::begin(kMethods), std::end(kMethods), name) != std::end(kMethods);
}

Value call_string_method(Interpreter& run, const Value& self, std::string_view name, Args& args) {
  run.budget().step(1 + self.text().size() / 256);
  run.budget().allocate(self.text().size());
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return strip_method(name, self, args);
  if (name == "split" || name == "rsplit") return split_method(run, name, self, args);
  if (name == "startswith" || name == "endswith") return affix_test(name, self, args);
  if (name == "replace") return replace_method(run, self, args);
  if (name == "join") return join_method(run, self, args);
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex" || name == "count")
    return find_method(run, name, self, args);
  if (name == "partition" || name == "rpartition") return partition_method(name, self, args);
  if (name == "removeprefix" || name == "removesuffix")
    return remove_affix_method(name, self, args);
  if (name == "center" || name == "ljust" || name == "rjust" || name == "zfill")
    return pad_method(run, name, self, args);
  if (name == "format") return Value::string(format_braces(self, args, run), self.markup());
  if (name == "splitlines") {
    const Arguments arguments(name, args, {"keepends"});
    return pieces(split_lines(self.text(), arguments.flag(0, false), run.budget()), self);
  }
  if (!is_string_method(name)) raise("the string method '{}' is not supported", name);
  Arguments(name, args, {});
  if (const auto to = case_method(name))
    return same_kind(change_case(self.text(), *to, run.budget()), self);
  return Value::boolean(is_class(name, self.view()));
}

}  // namespace donar::text::jinja
