// Each scanner tries the alternatives of its pattern in order at one place, as a backtracking
// engine does; the comments name the alternative. Every scan is linear: a place that is looked at
// again is taken by the next match.
#include "text/split_scanners.h"

#include <array>

#include "text/unicode.h"

namespace donar::text {
namespace {

// A place in the text with its character and classes; `classes` is 0 at the end.
class Cursor {
 public:
  Cursor(std::string_view text, size_t at) : text_(text) { move_to(at); }

  bool done() const { return at_ == text_.size(); }
  size_t at() const { return at_; }
  uint32_t code() const { return code_; }
  bool is(ClassMask mask) const { return (classes_ & mask) != 0; }
  bool is_newline() const { return !done() && (code_ == '\r' || code_ == '\n'); }
  std::string_view rest() const { return text_.substr(at_); }

  void move_to(size_t at) {
    at_ = at;
    if (done()) {
      code_ = 0;
      classes_ = 0;
      length_ = 0;
      return;
    }
    const Character character = character_at(text_.data() + at);
    code_ = character.code;
    length_ = character.length;
    classes_ = classes_of(code_);
  }
  void next() { move_to(at_ + length_); }
  void skip(ClassMask mask) {
    while (is(mask)) next();
  }
  Cursor following() const {
    Cursor copy = *this;
    copy.next();
    return copy;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
  uint32_t code_ = 0;
  uint32_t length_ = 0;
  ClassMask classes_ = 0;
};

// Bytes of 's|'t|'re|'ve|'m|'ll|'d at the start of `text`; 0 for none.
size_t contraction(std::string_view text, bool ignore_case) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto lower = [&](char c) -> char {
    return ignore_case && c >= 'A' && c <= 'Z' ? c + 32 : c;
  };
  const char first = lower(text[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (ignore_case && text.substr(1, 2) == "\xC5\xBF") return 3;  // U+017F folds to s
  if (text.size() < 3) return 0;
  const char second = lower(text[2]);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

// \s*[\r\n]+ (if `newlines`), then \s+(?!\S), then \s+ at `here`, which is whitespace. Returns the
// end.
size_t whitespace_end(Cursor here, bool newlines) {
  size_t last_begin = here.at();  // of the run's last character
  const size_t begin = here.at();
  size_t newline_end = 0;
  while (here.is(kSpace)) {
    const bool newline = here.is_newline();
    last_begin = here.at();
    here.next();
    if (newline) newline_end = here.at();
  }
  if (newlines && newline_end > 0) return newline_end;
  if (here.done() || last_begin == begin) return here.at();
  return last_begin;  // the last one goes with what follows
}

// The end of " ?[class]+" with optional trailing characters; 0 if it does not match.
template <class Trailing>
size_t optional_space_run(const Cursor& here, ClassMask mask, bool inside, Trailing&& trailing) {
  // inside: characters of the mask; else: characters outside it.
  const auto fits = [&](const Cursor& c) { return !c.done() && c.is(mask) == inside; };
  Cursor end = here.code() == ' ' && !here.done() ? here.following() : here;
  if (!fits(end)) {
    end = here;
    if (!fits(end)) return 0;
  }
  while (fits(end)) end.next();
  while (!end.done() && trailing(end.code())) end.next();
  return end.at();
}

constexpr auto kNothing = [](uint32_t) { return false; };
constexpr auto kNewlines = [](uint32_t c) { return c == '\r' || c == '\n'; };
constexpr auto kNewlinesAndSlash = [](uint32_t c) { return c == '\r' || c == '\n' || c == '/'; };

// \p{N}{1,most}; 0 if it does not match.
size_t numbers_end(Cursor here, int most) {
  const size_t begin = here.at();
  for (int i = 0; i < most && here.is(kNumber); ++i) here.next();
  return here.at() == begin ? 0 : here.at();
}

// Calls `match(cursor)` -> end (0: no match here) along the text.
template <class Match>
void scan(std::string_view text, std::vector<Span>& matches, Match&& match) {
  Cursor here(text, 0);
  while (!here.done()) {
    const size_t end = match(here);
    if (end == 0) {
      here.next();
      continue;
    }
    matches.push_back({here.at(), end});
    here.move_to(end);
  }
}

void scan_gpt2(std::string_view text, std::vector<Span>& matches) {
  scan(text, matches, [](const Cursor& here) -> size_t {
    if (here.code() == '\'') {
      if (const size_t length = contraction(here.rest(), /*ignore_case=*/false))
        return here.at() + length;
    }
    if (const size_t end = optional_space_run(here, kLetter, true, kNothing)) return end;
    if (const size_t end = optional_space_run(here, kNumber, true, kNothing)) return end;
    if (const size_t end = optional_space_run(here, kSpace | kLetter | kNumber, false, kNothing))
      return end;
    return whitespace_end(here, /*newlines=*/false);
  });
}

// cl100k (Llama 3) and its relatives: `letters` is what words are made of, numbers come by
// `digits`.
template <ClassMask kLetters, int kDigits>
void scan_cl100k(std::string_view text, std::vector<Span>& matches) {
  scan(text, matches, [](const Cursor& here) -> size_t {
    if (here.code() == '\'') {
      if (const size_t length = contraction(here.rest(), /*ignore_case=*/true))
        return here.at() + length;
    }
    // [^\r\n\p{L}\p{N}]?[letters]+
    if (!here.is_newline() && !here.is(kLetter | kNumber)) {
      Cursor word = here.following();
      if (word.is(kLetters)) {
        word.skip(kLetters);
        return word.at();
      }
    }
    if (here.is(kLetters)) {
      Cursor word = here;
      word.skip(kLetters);
      return word.at();
    }
    if (const size_t end = numbers_end(here, kDigits)) return end;
    if (const size_t end = optional_space_run(here, kSpace | kLetters | kNumber, false, kNewlines))
      return end;
    return whitespace_end(here, /*newlines=*/true);
  });
}

constexpr ClassMask kUpper = bit(kLu) | bit(kLt) | bit(kLm) | bit(kLo) | kMark;
constexpr ClassMask kLower = bit(kLl) | bit(kLm) | bit(kLo) | kMark;

// [upper]*[lower]+ at `here`; 0 if it does not match.
size_t upper_then_lower(Cursor here) {
  size_t last_both = 0;  // after the last character that may also be lower: where backtracking ends
  while (here.is(kUpper)) {
    const bool both = here.is(kLower);
    here.next();
    if (both) last_both = here.at();
  }
  if (!here.is(kLower)) return last_both;
  here.skip(kLower);
  return here.at();
}

// [upper]+[lower]*
size_t upper_run(Cursor here) {
  if (!here.is(kUpper)) return 0;
  here.skip(kUpper);
  here.skip(kLower);
  return here.at();
}

template <bool kContractions, int kDigits>
void scan_o200k(std::string_view text, std::vector<Span>& matches) {
  scan(text, matches, [text](const Cursor& here) -> size_t {
    if (!here.is_newline() && !here.is(kNumber)) {
      const bool prefix = !here.is(kLetter);
      size_t end = prefix ? upper_then_lower(here.following()) : 0;
      if (end == 0) end = upper_then_lower(here);
      if (end == 0 && prefix) end = upper_run(here.following());
      if (end == 0) end = upper_run(here);
      if (end != 0) {
        return kContractions ? end + contraction(text.substr(end), /*ignore_case=*/true) : end;
      }
    }
    if (const size_t end = numbers_end(here, kDigits)) return end;
    if (const size_t end =
            optional_space_run(here, kSpace | kLetter | kNumber, false, kNewlinesAndSlash)) {
      return end;
    }
    return whitespace_end(here, /*newlines=*/true);
  });
}

void scan_numbers_by_three(std::string_view text, std::vector<Span>& matches) {
  scan(text, matches, [](const Cursor& here) { return numbers_end(here, 3); });
}

void scan_deepseek_cjk(std::string_view text, std::vector<Span>& matches) {
  const auto fits = [](uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
  };
  scan(text, matches, [&](const Cursor& here) -> size_t {
    if (!fits(here.code())) return 0;
    Cursor end = here;
    while (fits(end.code())) end.next();
    return end.at();
  });
}

void scan_deepseek_words(std::string_view text, std::vector<Span>& matches) {
  const auto ascii_letter = [](const Cursor& c) {
    return (c.code() | 32) >= 'a' && (c.code() | 32) <= 'z';
  };
  scan(text, matches, [&](const Cursor& here) -> size_t {
    // ASCII punctuation, then [A-Za-z]+
    if (here.code() < 0x80 && here.is(kPunctuation | kSymbol)) {
      Cursor word = here.following();
      if (ascii_letter(word)) {
        while (ascii_letter(word)) word.next();
        return word.at();
      }
    }
    // [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
    if (!here.is_newline() && !here.is(kLetter | kPunctuation | kSymbol)) {
      Cursor word = here.following();
      if (word.is(kLetter | kMark)) {
        word.skip(kLetter | kMark);
        return word.at();
      }
    }
    if (here.is(kLetter | kMark)) {
      Cursor word = here;
      word.skip(kLetter | kMark);
      return word.at();
    }
    if (const size_t end = optional_space_run(here, kPunctuation | kSymbol, true, kNewlines))
      return end;
    return here.is(kSpace) ? whitespace_end(here, /*newlines=*/true) : 0;
  });
}

struct Entry {
  std::string_view pattern;
  SplitScanner scanner;
};

constexpr std::array<Entry, 9> kScanners = {{
    {pattern::kGpt2, scan_gpt2},
    {pattern::kLlama3, scan_cl100k<kLetter, 3>},
    {pattern::kQwen2, scan_cl100k<kLetter, 1>},
    {pattern::kQwen35, scan_cl100k<kLetter | kMark, 1>},
    {pattern::kO200k, scan_o200k<true, 3>},
    {pattern::kTekken, scan_o200k<false, 1>},
    {pattern::kNumbersByThree, scan_numbers_by_three},
    {pattern::kDeepSeekCjk, scan_deepseek_cjk},
    {pattern::kDeepSeekWords, scan_deepseek_words},
}};

}  // namespace

SplitScanner find_scanner(std::string_view pattern) {
  for (const Entry& entry : kScanners) {
    if (entry.pattern == pattern) return entry.scanner;
  }
  return nullptr;
}

}  // namespace donar::text
