// Character classes of Unicode 16.0, and UTF-8 that may be anything.
#include "text/unicode.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace donar::text {
namespace {

TEST(Unicode, classes_are_those_of_version_16) {
  EXPECT_TRUE(classes_of('a') & bit(kLl));
  EXPECT_TRUE(classes_of(0x1C5) & bit(kLt));
  EXPECT_TRUE(classes_of(0x2B0) & bit(kLm));
  EXPECT_TRUE(classes_of(0x4E00) & bit(kLo));
  EXPECT_TRUE(classes_of(0x301) & kMark);
  EXPECT_TRUE(classes_of(0xBD) & kNumber);
  EXPECT_TRUE(classes_of(0x2167) & kNumber);
  EXPECT_TRUE(classes_of(0x20AC) & kSymbol);
  EXPECT_TRUE(classes_of(0xFF0C) & kPunctuation);
  EXPECT_TRUE(classes_of(0x10D50) & bit(kLu));  // Garay, new in 16.0
  EXPECT_TRUE(classes_of(0x1C89) & bit(kLu));   // Cyrillic, new in 16.0
  EXPECT_TRUE(classes_of(0xA7CE) & bit(kCn));   // new in 17.0
  EXPECT_TRUE(classes_of(0x10FFFF) & bit(kCn));
}

TEST(Unicode, white_space_is_exactly_the_property) {
  const std::set<uint32_t> expected = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,
                                       0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                       0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                       0x2029, 0x202F, 0x205F, 0x3000};
  std::set<uint32_t> found;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (classes_of(code) & kSpace) found.insert(code);
  }
  EXPECT_EQ(found, expected);
}

TEST(Unicode, word_characters_are_letters_marks_digits_and_connectors) {
  for (const uint32_t code : {uint32_t{'_'}, uint32_t{'7'}, 0x301u, 0x2160u, 0x24B6u, 0x200Du}) {
    EXPECT_TRUE(classes_of(code) & kWord) << code;
  }
  for (const uint32_t code : {uint32_t{'-'}, uint32_t{' '}, 0xBDu, 0x1F600u}) {
    EXPECT_FALSE(classes_of(code) & kWord) << code;
  }
}

TEST(Unicode, every_code_point_survives_encoding_and_decoding) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(code, text);
    ASSERT_EQ(next_utf8(text).state, Utf8State::kValid) << code;
    ASSERT_EQ(next_utf8(text).length, text.size());
    ASSERT_EQ(character_at(text.data()).code, code);
    ASSERT_EQ(character_before(text.data(), text.data() + text.size()).code, code);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(next_utf8(std::string_view(text).substr(0, cut)).state, Utf8State::kIncomplete);
    }
  }
}

TEST(Unicode, ill_formed_parts_become_one_replacement_each) {
  const auto lossy = [](std::string_view text) {
    std::string out;
    append_lossy(text, out);
    return out;
  };
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(lossy("a\xFFz"), "a" + r + "z");
  EXPECT_EQ(lossy("\x80\x80"), r + r);
  EXPECT_EQ(lossy("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(lossy("\xED\xA0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(lossy("\xF4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(lossy("\xE3\x81"), r);                      // unfinished: one part
  EXPECT_EQ(lossy("\xE3\x81z"), r + "z");
  EXPECT_EQ(lossy("\xF0\x9F\xA6\xF0\x9F\xA6\x99"), r + "\xF0\x9F\xA6\x99");
}

TEST(Unicode, valid_prefix_ends_at_the_first_bad_byte) {
  EXPECT_EQ(valid_utf8_prefix("plain ascii text, long"), 22u);
  EXPECT_EQ(valid_utf8_prefix("0123456789\xE3\x81\x82\xE3\x81"), 13u);
  EXPECT_EQ(valid_utf8_prefix("\xFF"), 0u);
}

}  // namespace
}  // namespace donar::text
