// Character classes by a two-stage table, and UTF-8 decoding that never reads past the end.
#include "text/unicode.h"

#include <cstring>

namespace donar::text {
namespace {
#include "text/unicode_tables.inc"
constexpr uint32_t kBlockBits = 7;
}  // namespace

ClassMask classes_of(uint32_t code) {
  const uint32_t entry = kBlocks[(size_t{kBlockOf[code >> kBlockBits]} << kBlockBits) |
                                 (code & ((1u << kBlockBits) - 1))];
  return ClassMask{1} << (entry & 31) | (entry & 0x60) << 25;  // bits 5, 6: kSpace, kWord
}

Character character_before(const char* begin, const char* end) {
  const char* start = end - 1;
  while (start > begin && (static_cast<unsigned char>(*start) & 0xC0) == 0x80) --start;
  return character_at(start);
}

Utf8Step next_utf8(std::string_view text) {
  const auto* b = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char lead = b[0];
  if (lead < 0x80) return {Utf8State::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8State::kInvalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and codes above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8State::kIncomplete, i};
    const bool fits = i == 1 ? b[i] >= low && b[i] <= high : (b[i] & 0xC0) == 0x80;
    if (!fits) return {Utf8State::kInvalid, i};
  }
  return {Utf8State::kValid, length};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const Utf8Step step = next_utf8(text.substr(at));
    if (step.state != Utf8State::kValid) return at;
    at += step.length;
  }
  return at;
}

void append_lossy(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    out.append(kReplacementCharacter);
    text.remove_prefix(next_utf8(text).length);
  }
}

void append_utf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace donar::text
