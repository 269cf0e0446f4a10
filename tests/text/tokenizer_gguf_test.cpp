// Vocabularies of GGUF files: SentencePiece by scores, and split patterns by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace donar::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

// 0 unknown, 1 and 2 control, 3..258 bytes, then pieces; scores fall with the id.
GgufVocabulary sentencepiece(std::vector<std::string> pieces) {
  GgufVocabulary v;
  v.model = "llama";
  v.bos_id = 1;
  v.eos_id = 2;
  v.unknown_id = 0;
  v.add_bos = true;
  const auto add = [&](std::string token, double score, int64_t type) {
    v.tokens.push_back(std::move(token));
    v.scores.push_back(score);
    v.token_types.push_back(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), 0, 6);
  for (size_t i = 0; i < pieces.size(); ++i) add(pieces[i], -static_cast<double>(i), 1);
  return v;
}

Tokenizer make(const GgufVocabulary& vocabulary) {
  auto tokenizer = Tokenizer::from_gguf(vocabulary);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

std::vector<std::string> spelled(const Tokenizer& tokenizer, const Ids& ids) {
  std::vector<std::string> tokens;
  for (const int32_t id : ids) tokens.emplace_back(tokenizer.token_string(id));
  return tokens;
}

TEST(TokenizerGguf, the_pair_with_the_highest_score_merges_first) {
  const Tokenizer t = make(sentencepiece({"▁", "a", "b", "c", "bc", "ab", "abc", "▁a", "▁abc"}));
  // "bc" has the higher score, so "ab" never forms; then "a"+"bc", then "▁"+"abc".
  EXPECT_THAT(spelled(t, t.encode("abc")), ElementsAre("▁abc"));
  EXPECT_THAT(spelled(t, t.encode("ab")), ElementsAre("▁", "ab"));
  EXPECT_THAT(spelled(t, t.encode("a bc")), ElementsAre("▁a", "▁", "bc"));
}

TEST(TokenizerGguf, of_equal_scores_the_leftmost_merges_first) {
  GgufVocabulary v = sentencepiece({"a", "aa", "▁"});
  const Tokenizer t = make(v);
  EXPECT_THAT(spelled(t, t.encode("aaaaa")), ElementsAre("▁", "aa", "aa", "a"));
}

TEST(TokenizerGguf, what_is_left_over_becomes_bytes) {
  const Tokenizer t = make(sentencepiece({"▁", "a"}));
  EXPECT_THAT(spelled(t, t.encode("aé")), ElementsAre("▁", "a", "<0xC3>", "<0xA9>"));
  EXPECT_EQ(t.decode(t.encode("aé日 a"), true), "aé日 a");
  EXPECT_EQ(t.token_bytes(t.encode("aé")[2]), "\xC3");
}

TEST(TokenizerGguf, control_and_byte_tokens_are_not_made_from_pieces) {
  // Every intermediate piece exists, so that merging alone could reach "<s>" and "<0x41>".
  const Tokenizer t = make(sentencepiece(
      {"<", "s", ">", "<s", "0", "x", "4", "1", "<0", "<0x", "<0x4", "<0x41", "▁", "1>"}));
  const std::string text = "<s><0x41>";
  EXPECT_EQ(t.encode("<s>").back(), 1);
  const ByteRange whole{0, text.size()};
  const Ids ids = t.encode(text, {.untrusted = {&whole, 1}});
  for (const int32_t id : ids) EXPECT_GT(id, 258) << t.token_string(id);
  EXPECT_EQ(t.decode(ids, false), text);
}

TEST(TokenizerGguf, the_beginning_and_the_space_prefix_follow_the_keys) {
  GgufVocabulary v = sentencepiece({"▁", "a"});
  EXPECT_THAT(spelled(make(v), make(v).encode("a", {.add_special_tokens = true})),
              ElementsAre("<s>", "▁", "a"));
  v.add_bos = false;
  v.add_eos = true;
  v.add_space_prefix = false;
  EXPECT_THAT(spelled(make(v), make(v).encode("a", {.add_special_tokens = true})),
              ElementsAre("a", "</s>"));
  EXPECT_EQ(make(v).decode(Ids{259, 260}, true),
            " a");  // nothing was put in front, nothing is taken off
  v.add_space_prefix = true;
  EXPECT_EQ(make(v).decode(Ids{259, 260}, true), "a");
}

TEST(TokenizerGguf, control_tokens_are_hidden_and_user_defined_ones_shown) {
  GgufVocabulary v = sentencepiece({"▁", "a", "<tool>"});
  v.token_types.back() = 4;
  const Tokenizer t = make(v);
  EXPECT_THAT(spelled(t, t.encode("<tool></s>")), ElementsAre("<tool>", "</s>"));
  EXPECT_EQ(t.decode(t.encode("<tool></s>"), true), "<tool>");
  EXPECT_EQ(t.special_token_names().at("bos_token"), "<s>");
  EXPECT_EQ(t.bos_id(), 1);
  EXPECT_EQ(t.eos_id(), 2);
}

GgufVocabulary byte_level(std::string pre) {
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = std::move(pre);
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    v.tokens.emplace_back();
    append_byte_level({&raw, 1}, v.tokens.back());
    v.token_types.push_back(1);
  }
  for (const char* merge : {"1 2", "12 3", "123 4", "Ċ Ċ"}) {
    const std::string pair = merge;
    const size_t space = pair.find(' ');
    v.tokens.push_back(pair.substr(0, space) + pair.substr(space + 1));
    v.merges.push_back(pair);
    v.token_types.push_back(1);
  }
  v.tokens.push_back("<|end|>");
  v.token_types.push_back(3);
  return v;
}

TEST(TokenizerGguf, the_split_pattern_is_chosen_by_name) {
  const auto tokens = [](const char* pre, const char* text) {
    const Tokenizer t = make(byte_level(pre));
    return spelled(t, t.encode(text));
  };
  EXPECT_THAT(tokens("gpt-2", "1234"), ElementsAre("1234"));
  EXPECT_THAT(tokens("", "1234"), ElementsAre("1234"));
  EXPECT_THAT(tokens("smollm", "1234"), ElementsAre("1", "2", "3", "4"));
  EXPECT_THAT(tokens("llama-bpe", "1234"), ElementsAre("123", "4"));
  EXPECT_THAT(tokens("gpt-4o", "1234"), ElementsAre("123", "4"));
  EXPECT_THAT(tokens("qwen2", "1234"), ElementsAre("1", "2", "3", "4"));
  EXPECT_THAT(tokens("deepseek-v3", "1234"), ElementsAre("123", "4"));
  EXPECT_THAT(tokens("tekken", "12"), ElementsAre("1", "2"));
  EXPECT_THAT(tokens("qwen2", "e\u0301"), ElementsAre("Ã", "©"));  // NFC, then the bytes of é
  EXPECT_THAT(tokens("llama-bpe", "<|end|>"), ElementsAre("<|end|>"));
}

TEST(TokenizerGguf, what_is_not_known_is_refused_by_name) {
  auto tokenizer = Tokenizer::from_gguf(byte_level("babel"));
  ASSERT_FALSE(tokenizer);
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("\"babel\""));
  EXPECT_THAT(tokenizer.error().message, HasSubstr("llama-bpe"));
  GgufVocabulary v = byte_level("gpt-2");
  v.model = "bert";
  tokenizer = Tokenizer::from_gguf(v);
  ASSERT_FALSE(tokenizer);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("\"bert\""));
}

TEST(TokenizerGguf, torn_vocabularies_are_refused) {
  const auto message = [](auto change) {
    GgufVocabulary v = sentencepiece({"▁", "a"});
    change(v);
    auto tokenizer = Tokenizer::from_gguf(v);
    EXPECT_FALSE(tokenizer);
    return tokenizer ? std::string() : tokenizer.error().message;
  };
  EXPECT_THAT(message([](auto& v) { v.scores.pop_back(); }),
              HasSubstr("261 tokens but 260 scores"));
  EXPECT_THAT(message([](auto& v) { v.token_types.pop_back(); }), HasSubstr("260 token types"));
  EXPECT_THAT(message([](auto& v) { v.bos_id = 261; }), HasSubstr("261"));
  EXPECT_THAT(message([](auto& v) { v.tokens.back() = "\xFF"; }), HasSubstr("UTF-8"));
  EXPECT_THAT(message([](auto& v) {
                v.tokens.clear();
                v.scores.clear();
                v.token_types.clear();
              }),
              HasSubstr("0 tokens"));
  GgufVocabulary v = byte_level("gpt-2");
  v.merges.push_back("12");
  EXPECT_THAT(Tokenizer::from_gguf(v).error().message, HasSubstr("merge 4"));
}

}  // namespace
}  // namespace donar::text
