// The hand scanners give what the regular expressions give. PCRE2's Unicode tables may be older
// than 16.0, so the random texts keep to characters that have not changed.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "text/split_pattern.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr std::string_view kPatterns[] = {
    pattern::kGpt2,           pattern::kLlama3,      pattern::kQwen2,
    pattern::kQwen35,         pattern::kO200k,       pattern::kTekken,
    pattern::kNumbersByThree, pattern::kDeepSeekCjk, pattern::kDeepSeekWords,
};

std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kAtoms = {
      "a",      "b",      "Z",      "A",      "é",      "É",      "ß",      "'",        "'s",
      "'S",     "'ll",    "'RE",    "'ſ",     "ſ",      "'",      "1",      "2",        "٣",
      "½",      "Ⅷ",      " ",      " ",      "  ",     "\n",     "\r\n",   "\t",       "\v",
      "\u00a0", "\u0085", "\u2028", "\u3000", "\u200b", "\ufeff", "\u180e", "日",       "本",
      "あ",     "ア",     "\u0301", "\u0323", "ǅ",      "ʰ",      "ª",      "ก",        "ั",
      "क",      "्",       ".",      ",",      "/",      "//",     "!",      "-",        "_",
      "(",      "$",      "+",      "<|",     "€",      "。",     "🦙",   "👍🏽", "\u200d",
      "\u0000", "\x7f",   "\ue000", "м",      "М",      "…",      "\u00ad"};
  std::string text;
  for (size_t i = 0, n = random() % 24; i < n; ++i) {
    const std::string& atom = kAtoms[random() % kAtoms.size()];
    for (size_t k = 0, times = random() % 6 == 0 ? 1 + random() % 4 : 1; k < times; ++k)
      text += atom;
  }
  return text;
}

TEST(TokenizerSplit, scanners_agree_with_the_regular_expressions) {
  std::mt19937 random(11);
  for (const std::string_view expression : kPatterns) {
    const SplitScanner scanner = find_scanner(expression);
    ASSERT_NE(scanner, nullptr) << expression;
    // A group around it is the same expression under another text, so that it goes to the regex
    // engine.
    auto regex = SplitPattern::regex("(?:" + std::string(expression) + ")");
    ASSERT_TRUE(regex) << regex.error().message;
    ASSERT_FALSE(regex->has_scanner());
    for (int round = 0; round < 3000; ++round) {
      const std::string text = random_text(random);
      std::vector<Span> by_scanner, by_regex;
      scanner(text, by_scanner);
      regex->find(text, by_regex);
      ASSERT_EQ(by_scanner, by_regex) << expression << "\n" << testing::PrintToString(text);
    }
  }
}

TEST(TokenizerSplit, scanners_know_letters_of_unicode_16) {
  std::string text = "x ";
  append_utf8(0x10D50, text);  // Garay, a letter since 16.0
  append_utf8(0x10D70, text);
  std::vector<Span> matches;
  find_scanner(pattern::kO200k)(text, matches);
  EXPECT_EQ(matches, (std::vector<Span>{{0, 1}, {1, text.size()}}));
}

TEST(TokenizerSplit, other_patterns_have_no_scanner) {
  EXPECT_EQ(find_scanner("\\p{L}+"), nullptr);
  EXPECT_EQ(find_scanner(std::string(pattern::kGpt2) + "|x"), nullptr);
}

TEST(TokenizerSplit, runaway_backtracking_ends) {
  auto regex = SplitPattern::regex("(a+)+$x");
  ASSERT_TRUE(regex);
  std::vector<Span> matches;
  regex->find(std::string(5000, 'a') + "b", matches);
  EXPECT_TRUE(matches.empty());
}

}  // namespace
}  // namespace donar::text
