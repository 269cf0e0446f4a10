// Every step rewrites the text through a Writer, which carries the origins along.
#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

#include "text/unicode.h"

namespace donar::text {
namespace {

// Builds the next text from parts of `source`; what is written between two parts comes from the
// part named last.
class Writer {
 public:
  explicit Writer(const NormalizedText& source) : source_(source), track_(!source.origins.empty()) {
    result_.text.reserve(source.text.size() + source.text.size() / 8);
  }
  // `text` stands for the source bytes [begin, end).
  void replace(size_t begin, size_t end, std::string_view text) {
    result_.text.append(text);
    if (!track_ || text.empty()) return;
    Span origin{0, 0};
    if (begin < end) {
      origin = {source_.origins[begin].begin, source_.origins[end - 1].end};
    } else if (begin < source_.origins.size()) {
      origin = {source_.origins[begin].begin, source_.origins[begin].begin};
    } else {
      origin = {source_.origins.back().end, source_.origins.back().end};
    }
    result_.origins.insert(result_.origins.end(), text.size(), origin);
  }
  void keep(size_t begin, size_t end) {
    result_.text.append(source_.text, begin, end - begin);
    if (!track_) return;
    const auto first = source_.origins.begin();
    result_.origins.insert(result_.origins.end(), first + static_cast<ptrdiff_t>(begin),
                           first + static_cast<ptrdiff_t>(end));
  }
  NormalizedText take() { return std::move(result_); }

 private:
  const NormalizedText& source_;
  bool track_;
  NormalizedText result_;
};

// Whether the character stays as it is under the form and neither composes with what stands before
// nor is reordered.
bool stands_alone(UnicodeForm form, uint32_t code) {
  if (code < 0x80) return true;
  if (form != UnicodeForm::kNfc) return false;
  return code < 0x300 || (code >= 0x400 && code < 0x483) || (code >= 0x3041 && code < 0x3097) ||
         (code >= 0x30A1 && code < 0x30FB) || (code >= 0x3400 && code < 0xA000) ||
         (code >= 0xAC00 && code < 0xD7A4) || (code >= 0x1F300 && code < 0x1FB00);
}

// One stretch of text to its normal form. utf8proc decomposes and composes; the ordering of marks
// is ours, because its own is quadratic in the length of a run of marks.
std::string normal_form(UnicodeForm form, std::string_view text) {
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool compose = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size() + 8);
  for (size_t at = 0; at < text.size();) {
    const Character character = character_at(text.data() + at);
    at += character.length;
    std::array<utf8proc_int32_t, 32> parts;
    int boundary_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(character.code), parts.data(),
        static_cast<utf8proc_ssize_t>(parts.size()), options, &boundary_class);
    if (count < 1 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      codes.push_back(static_cast<utf8proc_int32_t>(character.code));
    } else {
      codes.insert(codes.end(), parts.begin(), parts.begin() + count);
    }
  }
  const auto combining = [](utf8proc_int32_t code) {
    return utf8proc_get_property(code)->combining_class;
  };
  for (size_t begin = 0; begin < codes.size();) {
    if (combining(codes[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < codes.size() && combining(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(begin),
                     codes.begin() + static_cast<ptrdiff_t>(end),
                     [&](auto a, auto b) { return combining(a) < combining(b); });
    begin = end;
  }
  if (compose) {
    const utf8proc_ssize_t count = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (count >= 0) codes.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t code : codes) append_utf8(static_cast<uint32_t>(code), out);
  return out;
}

NormalizedText apply_step(const NormalizeForm& step, NormalizedText source) {
  const std::string_view text = source.text;
  size_t first = 0;  // nothing to do before the first character that does not stand alone
  size_t before = 0;
  while (first < text.size()) {
    const Character character = character_at(text.data() + first);
    if (!stands_alone(step.form, character.code)) break;
    before = first;
    first += character.length;
  }
  if (first == text.size()) return source;
  Writer writer(source);
  writer.keep(0, before);
  // Stretches from a character that stands alone to the next one.
  for (size_t begin = before; begin < text.size();) {
    size_t end = begin + character_at(text.data() + begin).length;
    const size_t single = end;
    while (end < text.size()) {
      const Character character = character_at(text.data() + end);
      if (stands_alone(step.form, character.code)) break;
      end += character.length;
    }
    if (end == single && stands_alone(step.form, character_at(text.data() + begin).code)) {
      writer.keep(begin, end);
    } else {
      writer.replace(begin, end, normal_form(step.form, text.substr(begin, end - begin)));
    }
    begin = end;
  }
  return writer.take();
}

// Lower-case pairs that are newer than the tables of the oldest utf8proc we build with.
uint32_t newer_lower(uint32_t code) {
  switch (code) {
    case 0x1C89:
      return 0x1C8A;
    case 0xA7CB:
      return 0x264;
    case 0xA7CC:
      return 0xA7CD;
    case 0xA7DA:
      return 0xA7DB;
    case 0xA7DC:
      return 0x19B;
    default:
      return code >= 0x10D50 && code <= 0x10D65 ? code + 0x20 : code;
  }
}

NormalizedText apply_step(const NormalizeLowercase&, NormalizedText source) {
  Writer writer(source);
  std::string lower;
  for (size_t at = 0; at < source.text.size();) {
    const Character character = character_at(source.text.data() + at);
    lower.clear();
    if (character.code == 0x130) {
      lower = "i\xCC\x87";  // the one character whose lower case is two
    } else {
      const auto mapped =
          static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code)));
      append_utf8(mapped == character.code ? newer_lower(mapped) : mapped, lower);
    }
    writer.replace(at, at + character.length, lower);
    at += character.length;
  }
  return writer.take();
}

NormalizedText apply_step(const NormalizeStrip& step, NormalizedText source) {
  const char* data = source.text.data();
  size_t begin = 0, end = source.text.size();
  while (step.left && begin < end) {
    const Character character = character_at(data + begin);
    if ((classes_of(character.code) & kSpace) == 0) break;
    begin += character.length;
  }
  while (step.right && begin < end) {
    const Character character = character_before(data + begin, data + end);
    if ((classes_of(character.code) & kSpace) == 0) break;
    end -= character.length;
  }
  Writer writer(source);
  writer.keep(begin, end);
  return writer.take();
}

NormalizedText apply_step(const NormalizePrepend& step, NormalizedText source) {
  if (source.text.empty()) return source;
  Writer writer(source);
  writer.replace(0, 0, step.text);
  writer.keep(0, source.text.size());
  return writer.take();
}

NormalizedText apply_step(const NormalizeReplace& step, NormalizedText source) {
  std::vector<Span> matches;
  step.pattern.find(source.text, matches);
  if (matches.empty()) return source;
  Writer writer(source);
  size_t at = 0;
  for (const Span& match : matches) {
    writer.keep(at, match.begin);
    writer.replace(match.begin, match.end, step.content);
    at = match.end;
  }
  writer.keep(at, source.text.size());
  return writer.take();
}

}  // namespace

NormalizedText Normalizer::apply(std::string_view text, size_t offset, bool track_origins) const {
  NormalizedText result{std::string(text), {}};
  if (track_origins) {
    result.origins.resize(text.size());
    for (size_t i = 0; i < text.size(); ++i) result.origins[i] = {offset + i, offset + i + 1};
  }
  for (const NormalizeStep& step : steps_) {
    result = std::visit([&](const auto& s) { return apply_step(s, std::move(result)); }, step);
  }
  return result;
}

}  // namespace donar::text
