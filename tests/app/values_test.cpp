#include "app/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace donar::app {
namespace {

TEST(Values, sizes_have_decimal_and_binary_letters) {
  EXPECT_EQ(parse_human_size("4096").value(), 4096);
  EXPECT_EQ(parse_human_size("32k").value(), 32000);
  EXPECT_EQ(parse_human_size("32K").value(), 32768);
  EXPECT_EQ(parse_human_size("25.6k").value(), 25600);
  EXPECT_EQ(parse_human_size("2G").value(), int64_t{2} << 30);
  EXPECT_EQ(parse_human_size("1t").value(), 1000000000000);
  for (const char* text :
       {"", "k", "-1", "1.5", "1e", "12q", "nan", "inf", "1 k", "99999999999999999999k"})
    EXPECT_FALSE(parse_human_size(text).has_value()) << text;
}

TEST(Values, integers_and_numbers_are_whole_texts_in_range) {
  EXPECT_EQ(parse_integer("0", 0, 10).value(), 0);
  for (const char* text : {"", "1x", " 1", "11", "-1", "1.0"})
    EXPECT_FALSE(parse_integer(text, 0, 10).has_value()) << text;
  EXPECT_EQ(parse_number("0.5", 0, 1).value(), 0.5);
  for (const char* text : {"", "nan", "1.1", "x"})
    EXPECT_FALSE(parse_number(text, 0, 1).has_value()) << text;
}

TEST(Values, dtypes_have_vllms_spellings) {
  EXPECT_EQ(parse_dtype("auto").value(), std::nullopt);
  EXPECT_EQ(parse_dtype("half").value(), DType::kF16);
  EXPECT_EQ(parse_dtype("float").value(), DType::kF32);
  EXPECT_EQ(parse_dtype("BFloat16").value(), DType::kBF16);
  EXPECT_FALSE(parse_dtype("float64").has_value());
}

TEST(Values, lists_are_words_or_one_json_array) {
  EXPECT_THAT(parse_list({"a", "b"}).value(), testing::ElementsAre("a", "b"));
  EXPECT_THAT(parse_list({R"(["a","b c"])"}).value(), testing::ElementsAre("a", "b c"));
  EXPECT_FALSE(parse_list({"[1]"}).has_value());
  EXPECT_FALSE(parse_list({"[\"a\""}).has_value());
}

TEST(Values, nearest_finds_typing_errors_and_nothing_else) {
  const std::vector<std::string_view> flags = {"--port", "--host", "--max-model-len"};
  EXPECT_EQ(nearest("--prot", flags), "--port");
  EXPECT_EQ(nearest("--max-model-length", flags), "--max-model-len");
  EXPECT_EQ(nearest("--completely-different", flags), "");
}

}  // namespace
}  // namespace donar::app
