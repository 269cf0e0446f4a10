// Stop strings in streamed text: the result must not depend on how the text was cut.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace donar::text {
namespace {

TEST(StopMatcher, holds_back_what_could_start_a_stop_string) {
  StopMatcher matcher({"<end>"}, false);
  EXPECT_EQ(matcher.push("hello <"), "hello ");
  EXPECT_EQ(matcher.push("en"), "");
  EXPECT_EQ(matcher.push("tity"), "<entity");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.push("<end"), "");
  EXPECT_EQ(matcher.flush(), "<end");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, cuts_at_a_stop_string_that_straddles_pieces) {
  StopMatcher matcher({"STOP"}, false);
  EXPECT_EQ(matcher.push("one S"), "one ");
  EXPECT_EQ(matcher.push("TO"), "");
  EXPECT_EQ(matcher.push("P two"), "");
  ASSERT_TRUE(matcher.matched());
  EXPECT_EQ(*matcher.matched(), "STOP");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, may_include_the_stop_string) {
  StopMatcher matcher({"STOP"}, true);
  EXPECT_EQ(matcher.push("one S"), "one ");
  EXPECT_EQ(matcher.push("TOP two"), "STOP");
  EXPECT_EQ(matcher.matched(), "STOP");
}

TEST(StopMatcher, the_stop_string_that_is_complete_first_wins) {
  StopMatcher matcher({"bcd", "c"}, false);
  EXPECT_EQ(matcher.push("abcd"), "ab");
  EXPECT_EQ(matcher.matched(), "c");
}

TEST(StopMatcher, of_stop_strings_that_end_together_the_longest_wins) {
  StopMatcher matcher({"c", "bc", "abcd"}, false);
  EXPECT_EQ(matcher.push("xabc"), "xa");
  EXPECT_EQ(matcher.matched(), "bc");
}

TEST(StopMatcher, a_failed_start_may_hold_another_start) {
  StopMatcher matcher({"aab"}, false);
  EXPECT_EQ(matcher.push("aaa"), "a");
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_EQ(matcher.matched(), "aab");
}

TEST(StopMatcher, without_stop_strings_text_passes) {
  StopMatcher matcher({"", ""}, false);
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_EQ(matcher.flush(), "");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, any_cut_of_the_text_gives_the_same) {
  std::mt19937 random(7);
  const auto word = [&](size_t longest) {
    std::string text;
    for (size_t i = 0, n = 1 + random() % longest; i < n; ++i)
      text += static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0, n = 1 + random() % 3; i < n; ++i)
      stops.push_back(std::string(1, 'b').append(word(5)).append(1, 'a'));
    const std::string text = word(30);
    const bool include = random() % 2 == 0;
    // The definition: the shortest beginning of the text that ends in a stop string, the longest
    // such.
    std::string expected = text;
    std::optional<std::string> expected_stop;
    for (size_t end = 1; end <= text.size() && !expected_stop; ++end) {
      for (const std::string& stop : stops) {
        if (!std::string_view(text).substr(0, end).ends_with(stop)) continue;
        if (!expected_stop || stop.size() > expected_stop->size()) expected_stop = stop;
      }
      if (expected_stop) expected = text.substr(0, include ? end : end - expected_stop->size());
    }
    StopMatcher matcher(stops, include);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 4;
      out += matcher.push(std::string_view(text).substr(at, length));
      at += length;
    }
    out += matcher.flush();
    EXPECT_EQ(out, expected) << text;
    EXPECT_EQ(matcher.matched(), expected_stop) << text;
  }
}

}  // namespace
}  // namespace donar::text
