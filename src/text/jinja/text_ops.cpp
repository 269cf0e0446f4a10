// Operations on Text, all out of slices and appends so that ranges stay exact.
#include "text/jinja/text_ops.h"

#include <algorithm>
#include <iterator>

#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

bool contains_code_point(std::string_view characters, std::string_view one) {
  for (size_t at = 0; at < characters.size();) {
    const size_t bytes = decode_at(characters, at).bytes;
    if (characters.substr(at, bytes) == one) return true;
    at += bytes;
  }
  return false;
}

size_t previous(std::string_view text, size_t end) {
  size_t start = end - 1;
  while (start > 0 && end - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80)
    --start;
  return decode_at(text, start).bytes == end - start ? start : end - 1;
}

void add_piece(std::vector<Text>& pieces, const Text& text, size_t begin, size_t end,
               Budget& budget) {
  budget.step();
  budget.text(sizeof(Text) + (end - begin));
  pieces.push_back(text.slice(begin, end));
}

}  // namespace

Text strip(const Text& text, const std::optional<std::string_view>& characters, bool left,
           bool right) {
  const std::string_view bytes = text.view();
  if (!characters) {
    const size_t begin = left ? skip_space(bytes, 0) : 0;
    return text.slice(begin, right ? trimmed_end(bytes, begin) : bytes.size());
  }
  size_t begin = 0;
  size_t end = bytes.size();
  while (left && begin < end) {
    const size_t length = decode_at(bytes, begin).bytes;
    if (!contains_code_point(*characters, bytes.substr(begin, length))) break;
    begin += length;
  }
  while (right && end > begin) {
    const size_t start = previous(bytes, end);
    if (!contains_code_point(*characters, bytes.substr(start, end - start))) break;
    end = start;
  }
  return text.slice(begin, end);
}

Text replace(const Text& text, std::string_view from, const Text& to, int64_t limit,
             Budget& budget) {
  const std::string_view bytes = text.view();
  Text out;
  size_t done = 0;
  size_t at = 0;
  for (; limit != 0; --limit) {
    const size_t found = bytes.find(from, at);
    if (found == std::string_view::npos) break;
    budget.step();
    budget.check_text(out.size() + (found - done) + to.size());
    out.append(text, done, found);
    out.append(to);
    done = found + from.size();
    at = done;
    if (!from.empty()) continue;
    if (at >= bytes.size()) break;
    at += decode_at(bytes, at).bytes;
  }
  out.append(text, done, bytes.size());
  budget.text(out.size());
  return out;
}

std::vector<Text> split(const Text& text, std::string_view separator, int64_t limit,
                        Budget& budget) {
  std::vector<Text> pieces;
  size_t done = 0;
  for (; limit != 0; --limit) {
    const size_t found = text.view().find(separator, done);
    if (found == std::string_view::npos) break;
    add_piece(pieces, text, done, found, budget);
    done = found + separator.size();
  }
  add_piece(pieces, text, done, text.size(), budget);
  return pieces;
}

std::vector<Text> split_right(const Text& text, std::string_view separator, int64_t limit,
                              Budget& budget) {
  std::vector<Text> pieces;
  size_t end = text.size();
  for (; limit != 0 && end >= separator.size(); --limit) {
    const size_t found = text.view().rfind(separator, end - separator.size());
    if (found == std::string_view::npos) break;
    add_piece(pieces, text, found + separator.size(), end, budget);
    end = found;
  }
  add_piece(pieces, text, 0, end, budget);
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Text> split_blanks(const Text& text, int64_t limit, Budget& budget) {
  const std::string_view bytes = text.view();
  std::vector<Text> pieces;
  size_t at = skip_space(bytes, 0);
  for (; at < bytes.size(); --limit) {
    if (limit == 0) {
      add_piece(pieces, text, at, bytes.size(), budget);
      break;
    }
    size_t end = at;
    while (end < bytes.size()) {
      const CodePoint c = decode_at(bytes, end);
      if (is_space(c.value)) break;
      end += c.bytes;
    }
    add_piece(pieces, text, at, end, budget);
    at = skip_space(bytes, end);
  }
  return pieces;
}

std::vector<Text> split_blanks_right(const Text& text, int64_t limit, Budget& budget) {
  const std::string_view bytes = text.view();
  std::vector<Text> pieces;
  size_t end = trimmed_end(bytes);
  for (; end > 0; --limit) {
    if (limit == 0) {
      add_piece(pieces, text, 0, end, budget);
      break;
    }
    size_t begin = end;
    while (begin > 0) {
      const size_t start = previous(bytes, begin);
      if (is_space(decode_at(bytes, start).value)) break;
      begin = start;
    }
    add_piece(pieces, text, begin, end, budget);
    end = trimmed_end(bytes.substr(0, begin));
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Text> split_lines(const Text& text, bool keep_ends, Budget& budget) {
  const std::string_view bytes = text.view();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = decode_at(bytes, at);
    size_t end = at + c.bytes;
    if (is_line_break(c.value)) {
      if (c.value == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
      add_piece(lines, text, begin, keep_ends ? end : at, budget);
      begin = end;
    }
    at = end;
  }
  if (begin < bytes.size()) add_piece(lines, text, begin, bytes.size(), budget);
  return lines;
}

Text change_case(const Text& text, Case to, Budget& budget) {
  const std::string_view bytes = text.view();
  budget.step(bytes.size() / 16);
  Text out;
  bool inside_word = false;
  bool after_letter = false;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = decode_at(bytes, at);
    const bool first = at == 0;
    std::string mapped;
    switch (to) {
      case Case::kUpper:
        mapped = upper(c.value);
        break;
      case Case::kLower:
        mapped = lower(c.value);
        break;
      case Case::kCapitalize:
        mapped = first ? title(c.value) : lower(c.value);
        break;
      case Case::kTitle:
        mapped = inside_word ? lower(c.value) : title(c.value);
        inside_word = is_alphabetic(c.value) && (is_upper(c.value) || is_lower(c.value));
        break;
      case Case::kSwap:
        mapped = is_upper(c.value) ? lower(c.value) : upper(c.value);
        break;
    }
    // Greek: the sigma at the end of a word has a form of its own.
    const size_t next = at + c.bytes;
    const bool word_ends = next >= bytes.size() || !is_alphabetic(decode_at(bytes, next).value);
    if (c.value == 0x3A3 && mapped == "\u03C3" && after_letter && word_ends) mapped = "\u03C2";
    after_letter = is_alphabetic(c.value);
    const bool malformed = c.value == 0xFFFD && c.bytes == 1;
    out.append(malformed ? bytes.substr(at, 1) : std::string_view(mapped), text.untrusted_at(at));
    at += c.bytes;
  }
  budget.text(out.size());
  return out;
}

Text pad(const Text& text, size_t left, size_t right, std::string_view fill, Budget& budget) {
  budget.text(text.size() + (left + right) * fill.size());
  Text out;
  for (size_t i = 0; i < left; ++i) out.append(fill, false);
  out.append(text);
  for (size_t i = 0; i < right; ++i) out.append(fill, false);
  return out;
}

Text reverse(const Text& text, Budget& budget) {
  budget.text(text.size());
  Text out;
  for (size_t end = text.size(); end > 0;) {
    const size_t start = previous(text.view(), end);
    out.append(text, start, end);
    end = start;
  }
  return out;
}

}  // namespace donar::text::jinja
