// Small tokenizers that cover every component of tokenizer.json, against the ids and texts of the
// reference library (tests/data/text/tokenizer_cases.json, made by tools/make_tokenizer_cases.py).
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace donar::text {
namespace {

class TokenizerCases : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto text = read_text_file(DONAR_TEST_DATA "/text/tokenizer_cases.json");
    ASSERT_TRUE(text) << text.error().message;
    auto parsed = parse_json(*text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    data_ = new json::value(std::move(*parsed));
  }
  static void TearDownTestSuite() {
    delete data_;
    data_ = nullptr;
  }

  static std::vector<int32_t> ids(const json::value& list) {
    std::vector<int32_t> ids;
    for (const json::value& id : list.as_array())
      ids.push_back(static_cast<int32_t>(id.as_int64()));
    return ids;
  }
  // The tokenizer's sections with its model among them.
  static std::string source(const json::value& tokenizer) {
    json::object whole = tokenizer.at("json").as_object();
    whole["model"] = data_->at("models").at(tokenizer.at("model").as_string());
    return json::serialize(whole);
  }

  static json::value* data_;
};
json::value* TokenizerCases::data_ = nullptr;

TEST_F(TokenizerCases, ids_and_texts_are_those_of_the_reference) {
  for (const json::value& entry : data_->at("tokenizers").as_array()) {
    const std::string name(entry.at("name").as_string());
    SCOPED_TRACE(name);
    auto tokenizer = Tokenizer::from_json(source(entry));
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    for (const json::value& row : entry.at("cases").as_array()) {
      const std::string_view text = row.at("text").as_string();
      EXPECT_EQ(tokenizer->encode(text), ids(row.at("ids"))) << row.at("text");
      EXPECT_EQ(tokenizer->encode(text, {.add_special_tokens = true}), ids(row.at("special")))
          << row.at("text");
      EXPECT_EQ(tokenizer->decode(ids(row.at("ids")), /*skip_special_tokens=*/false),
                std::string_view(row.at("text_out").as_string()))
          << row.at("text");
      EXPECT_EQ(tokenizer->decode(ids(row.at("ids")), /*skip_special_tokens=*/true),
                std::string_view(row.at("text_skip").as_string()))
          << row.at("text");
    }
  }
}

// Stripping at the end of the text is the one thing that streaming cannot do.
TEST_F(TokenizerCases, streamed_text_is_the_whole_text) {
  for (const json::value& entry : data_->at("tokenizers").as_array()) {
    SCOPED_TRACE(std::string(entry.at("name").as_string()));
    auto tokenizer = Tokenizer::from_json(source(entry));
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    for (const json::value& row : entry.at("cases").as_array()) {
      for (const bool skip : {false, true}) {
        StreamDecoder decoder(*tokenizer, skip);
        std::string streamed;
        for (const int32_t id : ids(row.at("ids"))) streamed += decoder.push(id);
        streamed += decoder.flush();
        EXPECT_EQ(streamed, tokenizer->decode(ids(row.at("ids")), skip)) << row.at("text");
      }
    }
  }
}

TEST_F(TokenizerCases, what_cannot_be_read_is_refused_with_its_name) {
  const json::value& base = data_->at("tokenizers").as_array().front();
  for (const json::value& entry : data_->at("refused").as_array()) {
    SCOPED_TRACE(std::string(entry.at("name").as_string()));
    json::object whole = parse_json(source(base))->as_object();
    for (const auto& [key, value] : entry.at("json").as_object()) whole[key] = value;
    auto tokenizer = Tokenizer::from_json(json::serialize(whole));
    ASSERT_FALSE(tokenizer);
    const std::string part(entry.at("part").as_string());
    EXPECT_NE(tokenizer.error().message.find(part), std::string::npos) << tokenizer.error().message;
    EXPECT_TRUE(tokenizer.error().message.starts_with("tokenizer.json: "))
        << tokenizer.error().message;
    EXPECT_TRUE(tokenizer.error().code == ErrorCode::kUnsupported ||
                tokenizer.error().code == ErrorCode::kDataLoss);
  }
}

TEST_F(TokenizerCases, every_truncation_is_refused_and_names_the_place) {
  const std::string text = source(data_->at("tokenizers").as_array().front());
  for (size_t size = 0; size < text.size(); size += 1 + size / 7) {
    auto tokenizer = Tokenizer::from_json(std::string_view(text).substr(0, size));
    ASSERT_FALSE(tokenizer) << size;
    EXPECT_EQ(tokenizer.error().code, ErrorCode::kDataLoss) << tokenizer.error().message;
  }
}

}  // namespace
}  // namespace donar::text
