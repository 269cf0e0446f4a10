// UTF-8 and the character classes of Unicode 16.0 that split patterns are written in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace donar::text {

// General categories, one bit each, so that a class of a split pattern is a mask.
enum Category : uint32_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo,
  kCn
};

using ClassMask = uint32_t;
constexpr ClassMask bit(Category category) { return ClassMask{1} << category; }
constexpr ClassMask kLetter = bit(kLu) | bit(kLl) | bit(kLt) | bit(kLm) | bit(kLo);
constexpr ClassMask kMark = bit(kMn) | bit(kMc) | bit(kMe);
constexpr ClassMask kNumber = bit(kNd) | bit(kNl) | bit(kNo);
constexpr ClassMask kPunctuation =
    bit(kPc) | bit(kPd) | bit(kPs) | bit(kPe) | bit(kPi) | bit(kPf) | bit(kPo);
constexpr ClassMask kSymbol = bit(kSm) | bit(kSc) | bit(kSk) | bit(kSo);
constexpr ClassMask kSpace = ClassMask{1} << 30;  // White_Space
constexpr ClassMask kWord = ClassMask{1} << 31;   // \w: letters, marks, digits, connectors

// The category's bit, with kSpace and kWord where they apply. `code` is at most U+10FFFF.
ClassMask classes_of(uint32_t code);

struct Character {
  uint32_t code;
  uint32_t length;  // bytes
};

// The character at `bytes`, which is valid UTF-8.
inline Character character_at(const char* bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xE0) return {(b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu), 2};
  if (b[0] < 0xF0) return {(b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu), 3};
  return {(b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu), 4};
}

// The character that ends at `end`; there is one, and the text from `begin` is valid UTF-8.
Character character_before(const char* begin, const char* end);

enum class Utf8State { kValid, kInvalid, kIncomplete };
struct Utf8Step {
  Utf8State state;
  size_t length;  // of the character, of the ill-formed part, or of the unfinished rest
};
// The next character of text that may be anything and is not empty.
Utf8Step next_utf8(std::string_view text);

// First byte that does not belong to a valid character; text.size() if all do.
size_t valid_utf8_prefix(std::string_view text);

// Appends `text` with U+FFFD for each ill-formed part (the "maximal subpart" rule).
void append_lossy(std::string_view text, std::string& out);

void append_utf8(uint32_t code, std::string& out);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace donar::text
