// json.dumps: order of keys kept, integers exact, floats as Python prints them.
#include "text/jinja/json_dump.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

class Dumper {
 public:
  Dumper(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void value(const Value& value, size_t level) {
    const Budget::Nest nest(budget_);
    budget_.step();
    budget_.check_text(out_.size());
    switch (value.kind()) {
      case Kind::kNone:
        return out_.append("null", value.untrusted());
      case Kind::kBool:
        return out_.append(value.as_bool() ? "true" : "false", value.untrusted());
      case Kind::kInt:
        return out_.append(int_repr(value.as_int()), value.untrusted());
      case Kind::kFloat:
        return out_.append(number(value.as_double()), value.untrusted());
      case Kind::kString:
        return string(value.text());
      case Kind::kList:
        if (value.as_list().sequence <= Sequence::kTuple) return list(value, level);
        break;
      case Kind::kDict:
        return dict(value, level);
      default:
        break;
    }
    if (value.is(Kind::kUndefined)) raise("tojson: {}", value.undefined_reason());
    raise("tojson: a {} is no JSON", value.type_name());
  }

  Text take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return float_repr(value);
  }

  void string(const Text& text) {
    budget_.check_text(out_.size() + text.size());
    const std::string_view bytes = text.view();
    out_.append("\"", false);
    size_t done = 0;
    for (size_t at = 0; at < bytes.size();) {
      const CodePoint c = decode_at(bytes, at);
      const std::string escaped = escape(c.value);
      if (!escaped.empty()) {
        out_.append(text, done, at);
        out_.append(escaped, text.untrusted_at(at));
        done = at + c.bytes;
      }
      at += c.bytes;
    }
    out_.append(text, done, bytes.size());
    out_.append("\"", false);
  }

  std::string escape(char32_t c) const {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    if (c < 0x20 || (style_.ascii && c == 0x7F))
      return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    if (!style_.ascii || c < 0x80) return {};
    if (c < 0x10000) return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    const unsigned offset = static_cast<unsigned>(c) - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset >> 10), 0xDC00 + (offset & 0x3FF));
  }

  void new_line(size_t level, bool untrusted) {
    if (!style_.indent) return;
    budget_.check_text(out_.size() + style_.indent->size() * level);
    out_.append("\n", untrusted);
    for (size_t i = 0; i < level; ++i) out_.append(*style_.indent, untrusted);
  }

  void list(const Value& list, size_t level) {
    const bool untrusted = list.untrusted();
    const std::vector<Value>& items = list.as_list().items;
    if (items.empty()) return out_.append("[]", untrusted);
    out_.append("[", untrusted);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      new_line(level + 1, untrusted);
      value(items[i], level + 1);
    }
    new_line(level, untrusted);
    out_.append("]", untrusted);
  }

  void key(const Value& key) {
    if (key.is(Kind::kString)) return string(key.text());
    if (!key.is(Kind::kNone) && !key.is_number())
      raise("tojson: a {} is no key of JSON", key.type_name());
    out_.append("\"", key.untrusted());
    value(key, 0);
    out_.append("\"", key.untrusted());
  }

  void dict(const Value& dict, size_t level) {
    const bool untrusted = dict.untrusted();
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.as_dict().entries) entries.push_back(&entry);
    if (entries.empty()) return out_.append("{}", untrusted);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return less(a->first, b->first, budget_);
      });
    }
    out_.append("{", untrusted);
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      new_line(level + 1, untrusted);
      key(entries[i]->first);
      out_.append(style_.key_separator);
      value(entries[i]->second, level + 1);
    }
    new_line(level, untrusted);
    out_.append("}", untrusted);
  }

  const JsonStyle& style_;
  Budget& budget_;
  Text out_;
};

}  // namespace

Text dump_json(const Value& value, const JsonStyle& style, Budget& budget) {
  Dumper dumper(style, budget);
  dumper.value(value, 0);
  Text out = dumper.take();
  budget.text(out.size());
  return out;
}

}  // namespace donar::text::jinja
