// Token by token to text: characters stay whole, at most three bytes wait, leading spaces are
// right.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <random>
#include <string>
#include <vector>

#include "text/byte_level.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

using Ids = std::vector<int32_t>;

// Ids 0..255 are bytes, 256 "Ġhello", 257 a control token, 258 an added token outside the byte map.
Tokenizer byte_level() {
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    v.tokens.emplace_back();
    append_byte_level({&raw, 1}, v.tokens.back());
    v.token_types.push_back(1);
  }
  v.tokens.insert(v.tokens.end(), {"Ġhello", "<|end|>", "<日 x>"});
  v.token_types.insert(v.token_types.end(), {1, 3, 4});
  auto tokenizer = Tokenizer::from_gguf(v);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

// Ids 0..255 are <0xHH>, 256 "▁the", 257 "▁", 258 "日", 259 a control token.
Tokenizer sentencepiece() {
  GgufVocabulary v;
  v.model = "llama";
  for (int byte = 0; byte < 256; ++byte) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    v.token_types.push_back(6);
  }
  v.tokens.insert(v.tokens.end(), {"▁the", "▁", "日", "</s>"});
  v.token_types.insert(v.token_types.end(), {1, 1, 1, 3});
  v.scores.resize(v.tokens.size());
  auto tokenizer = Tokenizer::from_gguf(v);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

std::vector<std::string> stream(const Tokenizer& tokenizer, const Ids& ids, bool skip = false) {
  StreamDecoder decoder(tokenizer, skip);
  std::vector<std::string> out;
  for (const int32_t id : ids) out.push_back(decoder.push(id));
  out.push_back(decoder.flush());
  return out;
}

using Steps = std::vector<std::string>;

TEST(StreamDecoder, a_character_comes_out_whole) {
  const Tokenizer t = byte_level();
  EXPECT_EQ(stream(t, {'a', 0xF0, 0x9F, 0xA6, 0x99, 256}),
            (Steps{"a", "", "", "", "🦙", " hello", ""}));
}

TEST(StreamDecoder, invalid_bytes_become_replacement_characters_at_once) {
  const Tokenizer t = byte_level();
  EXPECT_EQ(stream(t, {0xFF, 'a'}), (Steps{"\uFFFD", "a", ""}));
  EXPECT_EQ(stream(t, {0xE3, 0x81, 'a'}), (Steps{"", "", "\uFFFDa", ""}));
  EXPECT_EQ(stream(t, {0xE3, 0xE3, 0x81, 0x82}), (Steps{"", "\uFFFD", "", "あ", ""}));
}

TEST(StreamDecoder, what_is_unfinished_at_the_end_is_replaced) {
  const Tokenizer t = byte_level();
  EXPECT_EQ(stream(t, {'a', 0xF0, 0x9F, 0xA6}), (Steps{"a", "", "", "", "\uFFFD"}));
  StreamDecoder decoder(t, false);
  decoder.push(0xE3);
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, special_tokens_are_shown_or_skipped_and_added_ones_spelled) {
  const Tokenizer t = byte_level();
  EXPECT_EQ(stream(t, {257, 'a', 258}, false), (Steps{"<|end|>", "a", "<日 x>", ""}));
  EXPECT_EQ(stream(t, {257, 'a', 258}, true), (Steps{"", "a", "<日 x>", ""}));
  EXPECT_EQ(stream(t, {-1, 5000, 'a'}), (Steps{"", "", "a", ""}));
}

TEST(StreamDecoder, the_first_space_of_sentencepiece_is_not_text) {
  const Tokenizer t = sentencepiece();
  EXPECT_EQ(stream(t, {256, 256}), (Steps{"the", " the", ""}));
  EXPECT_EQ(stream(t, {257, 257, 258}), (Steps{"", " ", "日", ""}));
  EXPECT_EQ(stream(t, {259, 256}, true), (Steps{"", "the", ""}));
}

TEST(StreamDecoder, after_a_prompt_the_space_is_text) {
  const Tokenizer t = sentencepiece();
  StreamDecoder decoder(t, true);
  const Ids prompt = {256, 259};
  decoder.prime(prompt);
  EXPECT_EQ(decoder.push(256), " the");
  // A prompt may end inside a character.
  const Ids half = {0xE6, 0x97};
  decoder.prime(half);
  EXPECT_EQ(decoder.push(0xA5), "日");
}

TEST(StreamDecoder, byte_tokens_of_sentencepiece_join_to_characters) {
  const Tokenizer t = sentencepiece();
  EXPECT_EQ(stream(t, {258, 0xE6, 0x97, 0xA5, 258}), (Steps{"日", "", "", "日", "日", ""}));
  EXPECT_EQ(stream(t, {258, 0xE6, 0x97, 258}),
            (Steps{"日", "", "", "\uFFFD\uFFFD日", ""}));  // one per byte
  EXPECT_EQ(stream(t, {258, 0xE6, 0x97}), (Steps{"日", "", "", "\uFFFD\uFFFD"}));
}

TEST(StreamDecoder, pieces_are_valid_and_add_up_to_the_whole_text) {
  const Tokenizer t = byte_level();
  std::mt19937 random(3);
  const std::string letters = "aé日🦙";
  for (int round = 0; round < 3000; ++round) {
    Ids ids;
    for (size_t i = 0, n = random() % 12; i < n; ++i) {
      // Bytes of real characters, so that whole, cut and broken ones all occur.
      const auto byte = static_cast<uint8_t>(letters[random() % letters.size()]);
      ids.push_back(random() % 8 == 0 ? static_cast<int32_t>(random() % 256) : byte);
    }
    std::string all;
    for (const std::string& piece : stream(t, ids)) {
      EXPECT_EQ(valid_utf8_prefix(piece), piece.size());
      all += piece;
    }
    EXPECT_EQ(all, t.decode(ids, false));
  }
}

}  // namespace
}  // namespace donar::text
