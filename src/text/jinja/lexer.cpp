// The lexer: one function per state. Positions count in the source after CRLF became LF; columns
// count code points.
#include "text/jinja/lexer.h"

#include <algorithm>
#include <cstring>

#include "text/jinja/budget.h"
#include "text/jinja/string_literal.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(const CodePoint& c) {
  return c.value == '_' ||
         (c.value < 0x80 ? (c.value | 32) >= 'a' && (c.value | 32) <= 'z' : is_alphabetic(c.value));
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) data();
    emit(TokenKind::kEnd, "", at_);
    return std::move(tokens_);
  }

 private:
  std::string_view rest(size_t from) const {
    return std::string_view(source_).substr(std::min(from, source_.size()));
  }
  bool starts(size_t from, std::string_view what) const {
    return rest(from).substr(0, what.size()) == what;
  }

  [[noreturn]] void fail(size_t position, std::string message) {
    place(position);
    throw TemplateError{std::move(message), line_, column_};
  }

  // Moves line_ and column_ to `position`, which only grows from call to call (or falls back to a
  // line's start for errors).
  void place(size_t position) {
    if (position < placed_) {
      placed_ = 0;
      line_ = column_ = 1;
    }
    while (placed_ < position && placed_ < source_.size()) {
      const CodePoint c = decode_at(source_, placed_);
      placed_ += c.bytes;
      ++column_;
      if (c.value == '\n') {
        ++line_;
        column_ = 1;
      }
    }
  }

  void emit(TokenKind kind, std::string text, size_t position) {
    place(position);
    tokens_.push_back({kind, std::move(text), line_, column_});
  }

  void emit_data(size_t begin, size_t end) {
    if (begin < end) emit(TokenKind::kData, source_.substr(begin, end - begin), begin);
  }

  // Where the data before a tag ends. `sign` is the tag's own: '-', '+' or 0; only blocks and
  // comments strip by themselves.
  size_t data_end(size_t begin, size_t tag, char sign, bool strips) const {
    const std::string_view data(source_.data() + begin, tag - begin);
    if (sign == '-') return begin + trimmed_end(data);
    if (sign == '+' || !strips) return tag;
    const size_t newline = data.rfind('\n');
    if (newline == std::string_view::npos && !line_starting_) return tag;
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    return skip_space(data, line) == data.size() ? begin + line : tag;
  }

  char sign_at(size_t position) const {
    return position < source_.size() && (source_[position] == '-' || source_[position] == '+')
               ? source_[position]
               : '\0';
  }

  // Consumes the end of a tag at `position` ("%}", "-%}", "+%}"); true if there was one.
  bool tag_end(size_t position, std::string_view mark, bool plus_allowed, bool eats_newline) {
    const char sign = sign_at(position);
    const bool signed_end =
        (sign == '-' || (sign == '+' && plus_allowed)) && starts(position + 1, mark);
    if (!signed_end && !starts(position, mark)) return false;
    at_ = position + mark.size() + (signed_end ? 1 : 0);
    if (signed_end && sign == '-') {
      at_ = skip_space(source_, at_);
    } else if (!signed_end && eats_newline && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
    return true;
  }

  // Text up to the next tag, then that tag.
  void data() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        emit_data(begin, source_.size());
        at_ = source_.size();
        return;
      }
      const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (next == '%' || next == '{' || next == '#') break;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    emit_data(begin, data_end(begin, tag, sign, /*strips=*/kind != '{'));
    at_ = tag + 2 + (sign ? 1 : 0);
    if (kind == '#') return comment(tag);
    if (kind == '%' && raw(tag)) return;
    inside_tag(tag, kind == '%');
  }

  void comment(size_t tag) {
    for (size_t end = at_;; ++end) {
      end = source_.find('#', end);
      if (end == std::string::npos) fail(tag, "this comment has no end: add #}");
      const size_t from = end > at_ && sign_at(end - 1) ? end - 1 : end;
      if (tag_end(from, "#}", /*plus_allowed=*/true, /*eats_newline=*/true)) return;
    }
  }

  // {% raw %} ... {% endraw %}; false if the tag at at_ is another one.
  bool raw(size_t tag) {
    const size_t word = skip_space(source_, at_);
    if (!starts(word, "raw")) return false;
    size_t end = skip_space(source_, word + 3);
    if (starts(end, "-%}")) {
      end = skip_space(source_, end + 3);
    } else if (starts(end, "%}")) {
      end += 2;
    } else {
      return false;
    }
    line_starting_ = source_[end - 1] == '\n';
    for (size_t close = end;; ++close) {
      close = source_.find("{%", close);
      if (close == std::string::npos) fail(tag, "this raw block has no end: add {% endraw %}");
      const char sign = sign_at(close + 2);
      const size_t name = skip_space(source_, close + 2 + (sign ? 1 : 0));
      if (!starts(name, "endraw")) continue;
      const size_t data_stop = data_end(end, close, sign, /*strips=*/true);
      if (!tag_end(skip_space(source_, name + 6), "%}", /*plus_allowed=*/true,
                   /*eats_newline=*/true))
        continue;
      emit_data(end, data_stop);
      return true;
    }
  }

  void inside_tag(size_t tag, bool block) {
    emit(block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, block ? "{%" : "{{", tag);
    std::string open;  // brackets that still have to be closed
    for (;;) {
      at_ = skip_space(source_, at_);
      if (at_ >= source_.size())
        fail(tag, block ? "this tag has no end: add %}" : "this expression has no end: add }}");
      const size_t begin = at_;
      if (open.empty() &&
          tag_end(at_, block ? "%}" : "}}", /*plus_allowed=*/block, /*eats_newline=*/block)) {
        emit(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd,
             block ? "end of statement block" : "end of print statement", begin);
        return;
      }
      if (number() || name() || string()) continue;
      operator_token(open);
    }
  }

  // digits with single underscores between them; the end of the match, or `from` if none.
  template <class Accept>
  size_t digits(size_t from, Accept accept, bool leading_underscore = false) const {
    size_t at = from;
    if (leading_underscore && at < source_.size() && source_[at] == '_') ++at;
    if (at >= source_.size() || !accept(source_[at])) return from;
    while (at < source_.size()) {
      if (accept(source_[at])) {
        ++at;
      } else if (source_[at] == '_' && at + 1 < source_.size() && accept(source_[at + 1])) {
        at += 2;
      } else {
        break;
      }
    }
    return at;
  }

  size_t float_end(size_t begin) const {
    if (begin > 0 && source_[begin - 1] == '.') return begin;  // items.0.5 is no float
    const size_t whole = digits(begin, is_digit);
    if (whole == begin) return begin;
    size_t end = whole;
    bool is_float = false;
    if (end < source_.size() && source_[end] == '.') {
      const size_t fraction = digits(end + 1, is_digit);
      if (fraction > end + 1) {
        end = fraction;
        is_float = true;
      }
    }
    if (end < source_.size() && (source_[end] | 32) == 'e') {
      const size_t from = end + 1 + (sign_at(end + 1) ? 1 : 0);
      const size_t exponent = digits(from, is_digit);
      if (exponent > from) {
        end = exponent;
        is_float = true;
      }
    }
    return is_float ? end : begin;
  }

  size_t integer_end(size_t begin) const {
    if (source_[begin] == '0') {
      const char base =
          begin + 1 < source_.size() ? static_cast<char>(source_[begin + 1] | 32) : '\0';
      const auto in_base = [base](char c) {
        if (base == 'b') return c == '0' || c == '1';
        if (base == 'o') return c >= '0' && c <= '7';
        return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f');
      };
      if (base == 'b' || base == 'o' || base == 'x') {
        const size_t end = digits(begin + 2, in_base, /*leading_underscore=*/true);
        if (end > begin + 2) return end;
      }
      return digits(begin, [](char c) { return c == '0'; });
    }
    return digits(begin, is_digit);
  }

  bool number() {
    if (!is_digit(source_[at_])) return false;
    const size_t begin = at_;
    const size_t float_stop = float_end(begin);
    at_ = float_stop > begin ? float_stop : integer_end(begin);
    std::string text = source_.substr(begin, at_ - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    emit(float_stop > begin ? TokenKind::kFloat : TokenKind::kInteger, std::move(text), begin);
    return true;
  }

  bool name() {
    const size_t begin = at_;
    if (!is_name_start(decode_at(source_, at_))) return false;
    while (at_ < source_.size()) {
      const CodePoint c = decode_at(source_, at_);
      if (!is_name_start(c) && !is_decimal(c.value)) break;
      at_ += c.bytes;
    }
    emit(TokenKind::kName, source_.substr(begin, at_ - begin), begin);
    return true;
  }

  bool string() {
    const size_t begin = at_;
    const char quote = source_[at_];
    if (quote != '\'' && quote != '"') return false;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] == '\\') ++at_;
    }
    if (at_ >= source_.size()) fail(begin, "this string has no end");
    ++at_;
    const std::string_view inner(source_.data() + begin + 1, at_ - begin - 2);
    std::string text;
    if (!unescape_string_literal(inner, text))
      fail(begin, "this string has a malformed escape (\\x, \\u or \\N)");
    emit(TokenKind::kString, std::move(text), begin);
    return true;
  }

  void operator_token(std::string& open) {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                    [&](std::string_view op) { return starts(at_, op); });
    if (found == std::end(kOperators)) {
      fail(at_, fmt::format("unexpected character '{}'",
                            source_.substr(at_, decode_at(source_, at_).bytes)));
    }
    const std::string_view text = *found;
    if (text == "(" || text == "[" || text == "{")
      open += text == "(" ? ')' : text == "[" ? ']' : '}';
    if (text == ")" || text == "]" || text == "}") {
      if (open.empty()) fail(at_, fmt::format("unexpected '{}'", text));
      if (open.back() != text[0])
        fail(at_, fmt::format("unexpected '{}', expected '{}'", text, open.back()));
      open.pop_back();
    }
    emit(TokenKind::kOperator, std::string(text), at_);
    at_ += text.size();
  }

  std::string source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  bool line_starting_ = true;  // the last tag ended with its line
  size_t placed_ = 0;
  uint32_t line_ = 1;
  uint32_t column_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(normalize_newlines(source)).run();
}

}  // namespace donar::text::jinja
