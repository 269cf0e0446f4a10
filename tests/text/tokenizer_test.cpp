// What callers rely on beyond ids: untrusted text, invalid UTF-8, names of special tokens, files
// and GGUF vocabularies.
#include "text/tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "text/byte_level.h"

namespace donar::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

// Byte-level letters, a few merges, and added tokens: 300 control, 301 control in normalised text,
// 302 not special.
std::string byte_level_json(const std::string& normalizer = "null") {
  std::string vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    const char raw = static_cast<char>(byte);
    append_byte_level({&raw, 1}, spelled);
    const bool escaped = raw == '"' || raw == '\\';
    vocabulary += fmt::format("\"{}{}\":{},", escaped ? "\\" : "", spelled, byte);
  }
  return R"({"version":"1.0","added_tokens":[
    {"id":300,"content":"<|end|>","special":true,"normalized":false},
    {"id":301,"content":"<|norm|>","special":true,"normalized":true},
    {"id":302,"content":"<tool>","special":false,"normalized":false},
    {"id":303,"content":"\n\n","special":false,"normalized":false}],
    "normalizer":)" +
         normalizer +
         R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
    "decoder":{"type":"ByteLevel"},
    "model":{"type":"BPE","vocab":{)" +
         vocabulary + R"("ab":256},"merges":["a b"]}})";
}

Tokenizer make(const std::string& json) {
  auto tokenizer = Tokenizer::from_json(json);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

bool has(const Ids& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

TEST(Tokenizer, special_tokens_are_not_matched_in_untrusted_text) {
  const Tokenizer tokenizer = make(byte_level_json());
  const std::string text = "a<|end|>b<|end|>c<|norm|>d<tool>e";
  EXPECT_THAT(tokenizer.encode(text), ElementsAre('a', 300, 'b', 300, 'c', 301, 'd', 302, 'e'));
  const ByteRange second{9, 16};
  const Ids ids = tokenizer.encode(text, {.untrusted = {&second, 1}});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 300), 1);
  EXPECT_TRUE(has(ids, 301));
  EXPECT_EQ(tokenizer.decode(ids, false), text);
  const ByteRange whole{0, text.size()};
  const Ids none = tokenizer.encode(text, {.untrusted = {&whole, 1}});
  for (const int32_t id : none) EXPECT_LE(id, 256);
  EXPECT_EQ(tokenizer.decode(none, false), text);
}

TEST(Tokenizer, a_match_must_lie_wholly_outside_untrusted_text) {
  const Tokenizer tokenizer = make(byte_level_json());
  const std::string text = "<|end|>";
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (size_t end = begin + 1; end <= text.size(); ++end) {
      const ByteRange range{begin, end};
      EXPECT_FALSE(has(tokenizer.encode(text, {.untrusted = {&range, 1}}), 300))
          << begin << " " << end;
    }
  }
  const std::vector<ByteRange> around = {{0, 3}, {10, 12}};
  EXPECT_TRUE(has(tokenizer.encode("abc<|end|>de", {.untrusted = around}), 300));
}

TEST(Tokenizer, a_match_that_is_not_allowed_leaves_room_for_the_next) {
  const Tokenizer tokenizer = make(byte_level_json());
  const ByteRange user{0, 5};
  EXPECT_TRUE(has(tokenizer.encode("<|end<|end|>", {.untrusted = {&user, 1}}), 300));
}

TEST(Tokenizer, untrusted_ranges_follow_the_text_through_the_normalizer) {
  const Tokenizer tokenizer = make(byte_level_json(
      R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"String":"~"},"content":"<|"}]})"));
  // Every character before the token changes its length: 3 to 2 bytes, 1 to 2 bytes.
  const std::string before = "e\u0301e\u0301~~", token = "<|norm|>";
  const std::string text = before + token + before + token;
  const size_t first = before.size(), second = before.size() * 2 + token.size();
  const auto count = [&](ByteRange range) {
    const Ids ids = tokenizer.encode(text, {.untrusted = {&range, 1}});
    return std::count(ids.begin(), ids.end(), 301);
  };
  EXPECT_EQ(tokenizer.encode(text).size(), tokenizer.encode(text, {.parse_special = true}).size());
  EXPECT_EQ(count({0, 1}), 2);
  EXPECT_EQ(count({first - 1, first}), 2);
  EXPECT_EQ(count({first + 7, first + 8}), 1);
  EXPECT_EQ(count({first, second}), 1);
  EXPECT_EQ(count({second, second + 1}), 1);
  EXPECT_EQ(count({first + 8, second}), 2);
  EXPECT_EQ(count({0, text.size()}), 0);
  // What the normalizer makes out of a user's "~" is the user's.
  const ByteRange tilde{0, 1};
  EXPECT_TRUE(has(tokenizer.encode("~norm|>"), 301));
  EXPECT_FALSE(has(tokenizer.encode("~norm|>", {.untrusted = {&tilde, 1}}), 301));
}

TEST(Tokenizer, blank_added_tokens_may_come_from_a_user) {
  const Tokenizer tokenizer = make(byte_level_json());
  const ByteRange whole{0, 4};
  EXPECT_THAT(tokenizer.encode("a\n\nb", {.untrusted = {&whole, 1}}), ElementsAre('a', 303, 'b'));
}

TEST(Tokenizer, special_tokens_stay_text_when_they_are_not_parsed) {
  const Tokenizer tokenizer = make(byte_level_json());
  const Ids ids = tokenizer.encode("<|end|><tool>", {.parse_special = false});
  EXPECT_FALSE(has(ids, 300));
  EXPECT_TRUE(has(ids, 302));  // not special: text of the model's own
}

TEST(Tokenizer, invalid_bytes_are_read_as_replacement_characters) {
  const Tokenizer tokenizer = make(byte_level_json());
  EXPECT_EQ(tokenizer.encode("a\xFF"
                             "b\xE3\x81"),
            tokenizer.encode("a\uFFFDb\uFFFD"));
  // Ranges move with their text: the token after three invalid bytes is trusted or not by its own
  // place.
  const std::string text = "\xFF\xFF\xFF<|end|>";
  const ByteRange before{0, 3}, on{3, 4};
  EXPECT_TRUE(has(tokenizer.encode(text, {.untrusted = {&before, 1}}), 300));
  EXPECT_FALSE(has(tokenizer.encode(text, {.untrusted = {&on, 1}}), 300));
}

TEST(Tokenizer, unknown_ids_give_nothing) {
  const Tokenizer tokenizer = make(byte_level_json());
  const Ids ids = {'a', 299, -1, 1 << 30, 'b'};
  EXPECT_EQ(tokenizer.decode(ids, false), "ab");
  EXPECT_EQ(tokenizer.token_bytes(299), "");
  EXPECT_EQ(tokenizer.token_string(-5), "");
  EXPECT_EQ(tokenizer.token_string(300), "<|end|>");
  EXPECT_EQ(tokenizer.token_id("<tool>"), 302);
  EXPECT_EQ(tokenizer.token_id("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(' '), " ");
  EXPECT_EQ(tokenizer.vocab_size(), 304);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(302));
}

TEST(Tokenizer, names_of_special_tokens_come_from_the_config) {
  auto tokenizer = Tokenizer::from_json(byte_level_json(), R"({
    "bos_token": "<|end|>", "eos_token": {"__type": "AddedToken", "content": "<tool>"}, "pad_token": null,
    "chat_template": "x", "added_tokens_decoder": {"304": {"content": "<new>", "special": true}}})");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos_id(), 300);
  EXPECT_EQ(tokenizer->eos_id(), 302);
  EXPECT_TRUE(tokenizer->is_special(302));
  EXPECT_EQ(tokenizer->token_id("<new>"), 304);
  EXPECT_EQ(
      tokenizer->special_token_names(),
      (std::map<std::string, std::string>{{"bos_token", "<|end|>"}, {"eos_token", "<tool>"}}));
}

TEST(Tokenizer, a_llama_2_style_class_adds_the_beginning_by_its_flags) {
  const auto first = [](const char* config) {
    auto tokenizer = Tokenizer::from_json(byte_level_json(), config);
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return tokenizer->encode("a", {.add_special_tokens = true});
  };
  EXPECT_THAT(
      first(
          R"({"tokenizer_class":"LlamaTokenizerFast","bos_token":"<|end|>","add_bos_token":true})"),
      ElementsAre(300, 'a'));
  EXPECT_THAT(
      first(
          R"({"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<|end|>","add_bos_token":true})"),
      ElementsAre('a'));
  EXPECT_THAT(
      first(R"({"tokenizer_class":"LlamaTokenizer","eos_token":"<|end|>","add_bos_token":false,
                       "add_eos_token":true})"),
      ElementsAre('a', 300));
}

class TokenizerDirectory : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) / "donar_tokenizer_test";
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const char* name, const std::string& text) {
    std::ofstream(directory_ / name) << text;
  }
  std::filesystem::path directory_;
};

TEST_F(TokenizerDirectory, a_directory_without_the_file_is_not_found) {
  auto tokenizer = Tokenizer::from_directory(directory_);
  ASSERT_FALSE(tokenizer);
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("tokenizer.json"));
}

TEST_F(TokenizerDirectory, the_map_of_special_tokens_fills_in_for_the_config) {
  write("tokenizer.json", byte_level_json());
  write("tokenizer_config.json", R"({"bos_token":"<|end|>"})");
  write("special_tokens_map.json", R"({"bos_token":"ignored","eos_token":{"content":"<tool>"}})");
  auto tokenizer = Tokenizer::from_directory(directory_);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos_id(), 300);
  EXPECT_EQ(tokenizer->eos_id(), 302);
}

TEST_F(TokenizerDirectory, a_malformed_file_is_named_with_the_place) {
  write("tokenizer.json", R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":x}}})");
  auto tokenizer = Tokenizer::from_directory(directory_);
  ASSERT_FALSE(tokenizer);
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(tokenizer.error().message, HasSubstr((directory_ / "tokenizer.json").string()));
  EXPECT_THAT(tokenizer.error().message, HasSubstr("malformed at byte 5"));
  write("tokenizer.json", byte_level_json());
  write("tokenizer_config.json", "[]");
  tokenizer = Tokenizer::from_directory(directory_);
  ASSERT_FALSE(tokenizer);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace donar::text
