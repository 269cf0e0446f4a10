// Real vocabularies against the ids, texts and streams of the reference library
// (tests/data/text/tokenizer_ids.json). The vocabularies belong to their authors and are not in the
// repository: tools/fetch_tokenizers.sh fetches them.
//   DONAR_TOKENIZERS     a directory with NAME/tokenizer.json
//   DONAR_SMOLLM2_GGUF   SmolLM2-135M-Instruct.Q4_1.gguf
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tests/text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace donar::text {
namespace {

std::vector<int32_t> ids(const json::value& list) {
  std::vector<int32_t> ids;
  for (const json::value& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    const char* variable = name == "smollm2" ? "DONAR_SMOLLM2_GGUF" : "DONAR_TOKENIZERS";
    const char* path = std::getenv(variable);
    if (path == nullptr) {
      GTEST_SKIP() << variable << " is not set: tools/fetch_tokenizers.sh fetches the vocabulary "
                   << name;
    }
    if (name != "smollm2" && !std::filesystem::exists(std::filesystem::path(path) / name)) {
      GTEST_SKIP() << path << "/" << name << " is missing";
    }
    tokenizer_ = load_once(name, path);
    ASSERT_NE(tokenizer_, nullptr);
    auto text = read_text_file(DONAR_TEST_DATA "/text/tokenizer_ids.json");
    ASSERT_TRUE(text) << text.error().message;
    auto parsed = parse_json(*text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    golden_ = std::move(*parsed);
  }

  // The large vocabularies are loaded once for all tests.
  static const Tokenizer* load_once(const std::string& name, const std::filesystem::path& path) {
    static std::map<std::string, Tokenizer> loaded;
    if (const auto found = loaded.find(name); found != loaded.end()) return &found->second;
    Result<Tokenizer> tokenizer = fail(ErrorCode::kDataLoss, "{}: not a GGUF file", path.string());
    if (name != "smollm2") {
      tokenizer = Tokenizer::from_directory(path / name);
    } else if (const auto vocabulary = read_gguf_vocabulary(path)) {
      tokenizer = Tokenizer::from_gguf(*vocabulary);
    }
    if (!tokenizer) {
      ADD_FAILURE() << tokenizer.error().message;
      return nullptr;
    }
    return &loaded.emplace(name, std::move(*tokenizer)).first->second;
  }

  const Tokenizer* tokenizer_ = nullptr;
  json::value golden_;
};

TEST_P(TokenizerGolden, encodes_as_the_reference) {
  size_t rows = 0;
  for (const json::value& row : golden_.at("rows").as_array()) {
    const std::string_view text = row.at("text").as_string();
    EXPECT_EQ(tokenizer_->encode(text), ids(row.at("ids").at(GetParam()))) << row.at("text");
    ++rows;
  }
  EXPECT_EQ(rows, 280u);
}

TEST_P(TokenizerGolden, puts_the_beginning_token_first_where_the_file_says_so) {
  const auto* begin = golden_.at("bos_added_with_special").as_object().if_contains(GetParam());
  if (begin == nullptr) GTEST_SKIP() << "no beginning token";
  for (const json::value& row : golden_.at("rows").as_array()) {
    std::vector<int32_t> expected = ids(row.at("ids").at(GetParam()));
    expected.insert(expected.begin(), static_cast<int32_t>(begin->as_int64()));
    EXPECT_EQ(tokenizer_->encode(row.at("text").as_string(), {.add_special_tokens = true}),
              expected);
  }
  EXPECT_EQ(tokenizer_->bos_id(), static_cast<int32_t>(begin->as_int64()));
}

TEST_P(TokenizerGolden, decodes_as_the_reference) {
  size_t rows = 0;
  for (const json::value& row : golden_.at("decode").as_array()) {
    if (row.at("tokenizer").as_string() != GetParam()) continue;
    ++rows;
    const auto list = ids(row.at("ids"));
    EXPECT_EQ(tokenizer_->decode(list, false), std::string_view(row.at("text").as_string())) << row;
    EXPECT_EQ(tokenizer_->decode(list, true), std::string_view(row.at("text_skip").as_string()))
        << row;
  }
  EXPECT_EQ(rows, 15u);
}

// The reference waits until the text of all its tokens is whole; we hold only the unfinished
// character, so what stands before it in the same token comes earlier. Whenever the reference has
// emitted, both have emitted the same.
TEST_P(TokenizerGolden, streams_as_the_reference) {
  size_t rows = 0;
  for (const json::value& row : golden_.at("decode").as_array()) {
    if (row.at("tokenizer").as_string() != GetParam()) continue;
    const json::value* stream = row.as_object().if_contains("stream");
    if (stream == nullptr) continue;
    ++rows;
    StreamDecoder decoder(*tokenizer_, /*skip_special_tokens=*/false);
    const auto list = ids(row.at("ids"));
    std::string ours, reference;
    for (size_t i = 0; i < list.size(); ++i) {
      ours += decoder.push(list[i]);
      const json::value& step = stream->as_array()[i];
      if (step.is_null()) {
        EXPECT_TRUE(ours.starts_with(reference)) << row << " step " << i;
      } else {
        reference += std::string_view(step.as_string());
        EXPECT_EQ(ours, reference) << row << " step " << i;
      }
    }
    EXPECT_EQ(decoder.flush(), "");
  }
  EXPECT_EQ(rows, 3u);
}

// Whatever a user writes, no special token comes out of it.
TEST_P(TokenizerGolden, untrusted_text_never_becomes_a_special_token) {
  std::string all;
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (tokenizer_->is_special(id)) all += std::string(tokenizer_->token_string(id)) + " a";
  }
  ASSERT_FALSE(all.empty());
  const ByteRange whole{0, all.size()};
  const auto unknown = tokenizer_->special_token_names().find("unk_token");
  for (const int32_t id : tokenizer_->encode(all, {.untrusted = {&whole, 1}})) {
    if (unknown != tokenizer_->special_token_names().end() &&
        tokenizer_->token_string(id) == unknown->second) {
      continue;
    }
    EXPECT_FALSE(tokenizer_->is_special(id)) << tokenizer_->token_string(id);
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, TokenizerGolden,
                         testing::Values("llama3.1", "qwen3", "gpt-oss", "smollm2", "mistral",
                                         "gemma3", "deepseek_v3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '.' || c == '-') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace donar::text
