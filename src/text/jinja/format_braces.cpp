// str.format: fields {}, {0}, {name}, {a.b}, {a[0]}, !r and :specification; attributes by the
// sandbox's rules.
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.size() < 6 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

class Formatter {
 public:
  Formatter(const Args& args, Interpreter& run, bool markup)
      : args_(args), run_(run), markup_(markup) {}

  Text format(const Text& text, int depth) {
    if (depth > 2) raise("format(): fields nest too deep");
    const std::string_view bytes = text.view();
    Text out;
    for (size_t at = 0; at < bytes.size();) {
      const size_t brace = bytes.find_first_of("{}", at);
      if (brace == std::string_view::npos) {
        out.append(text, at, bytes.size());
        break;
      }
      out.append(text, at, brace);
      if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
        out.append(text, brace, brace + 1);
        at = brace + 2;
        continue;
      }
      if (bytes[brace] == '}') raise("format(): single '}}'");
      size_t end = brace + 1;
      for (int open = 1; end < bytes.size(); ++end) {
        if (bytes[end] == '{') ++open;
        if (bytes[end] == '}' && --open == 0) break;
      }
      if (end >= bytes.size()) raise("format(): a field has no end");
      run_.budget().step();
      out.append(field(bytes.substr(brace + 1, end - brace - 1), depth));
      run_.budget().check_text(out.size());
      at = end + 1;
    }
    run_.budget().text(out.size());
    return out;
  }

 private:
  Text field(std::string_view field, int depth) {
    const size_t colon = field.find(':');
    std::string_view head = field.substr(0, colon);
    const std::string_view specification =
        colon == std::string_view::npos ? std::string_view() : field.substr(colon + 1);
    char conversion = 0;
    if (const size_t mark = head.find('!'); mark != std::string_view::npos) {
      if (head.size() != mark + 2) raise("format(): malformed conversion");
      conversion = head[mark + 1];
      head = head.substr(0, mark);
    }
    Value value = lookup(head);
    if (conversion == 'r' || conversion == 'a') {
      Text text;
      append_repr(text, value, run_.budget());
      value = Value::string(std::move(text));
    } else if (conversion == 's') {
      value = Value::string(to_text(value, run_.budget()));
    } else if (conversion != 0) {
      raise("format(): unknown conversion '{}'", conversion);
    }
    const Text resolved = format(Text(std::string(specification)), depth + 1);
    const Text formatted = format_value(value, resolved.view(), run_.budget());
    return markup_ && !value.markup() ? escape_html(formatted, run_.budget()) : formatted;
  }

  Value lookup(std::string_view path) {
    const size_t name_end = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, name_end));
    for (size_t at = name_end; at < path.size();) {
      if (path[at] == '.') {
        const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
        value = run_.attribute(value, path.substr(at + 1, end - at - 1));
        at = end;
      } else if (path[at] == '[') {
        const size_t end = path.find(']', at);
        if (end == std::string_view::npos) raise("format(): missing ]");
        const std::string_view key = path.substr(at + 1, end - at - 1);
        value = run_.item(value, is_number(key) ? Value::integer(std::stoi(std::string(key)))
                                                : Value::string(key));
        at = end + 1;
      } else {
        raise("format(): malformed field '{}'", path);
      }
    }
    return value;
  }

  Value first(std::string_view name) {
    size_t index = 0;
    if (name.empty()) {
      index = automatic_++;
    } else if (is_number(name)) {
      index = static_cast<size_t>(std::stoi(std::string(name)));
    } else {
      for (const auto& [key, value] : args_.named) {
        if (key == name) return value;
      }
      raise("format(): no argument is named '{}'", name);
    }
    if (index >= args_.positional.size()) raise("format(): no argument number {}", index);
    return args_.positional[index];
  }

  const Args& args_;
  Interpreter& run_;
  bool markup_;
  size_t automatic_ = 0;
};

}  // namespace

Text format_braces(const Value& format, const Args& args, Interpreter& run) {
  return Formatter(args, run, format.markup()).format(format.text(), 0);
}

}  // namespace donar::text::jinja
