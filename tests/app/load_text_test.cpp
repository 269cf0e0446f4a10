// GGUF metadata to the text module's plain data, and where sampling defaults come from.
#include "app/load_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace donar::app {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

model::ModelFiles gguf_files() {
  model::ModelFiles files;
  files.checkpoint.container = model::Checkpoint::Container::kGguf;
  files.checkpoint.path = "m.gguf";
  auto& metadata = files.checkpoint.metadata;
  metadata["tokenizer.ggml.model"] = std::string("gpt2");
  metadata["tokenizer.ggml.pre"] = std::string("smollm");
  metadata["tokenizer.ggml.tokens"] =
      std::vector<std::string>{"a", "b", "ab", "<|im_end|>", "<|eot_id|>"};
  metadata["tokenizer.ggml.token_type"] = std::vector<int64_t>{1, 1, 1, 3, 1};
  metadata["tokenizer.ggml.merges"] = std::vector<std::string>{"a b"};
  metadata["tokenizer.ggml.eos_token_id"] = uint64_t{3};
  metadata["tokenizer.ggml.bos_token_id"] = int64_t{1};
  return files;
}

TEST(GgufVocabulary, keys_become_fields_and_missing_ones_their_defaults) {
  const text::GgufVocabulary v = gguf_vocabulary(gguf_files().checkpoint).value();
  EXPECT_EQ(v.model, "gpt2");
  EXPECT_EQ(v.pre, "smollm");
  EXPECT_EQ(v.tokens.size(), 5u);
  EXPECT_EQ(v.merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(v.eos_id, 3);
  EXPECT_EQ(v.bos_id, 1);
  EXPECT_EQ(v.padding_id, -1);
  EXPECT_FALSE(v.add_bos);
}

TEST(GgufVocabulary, sentencepiece_begins_with_bos_unless_told_otherwise) {
  model::ModelFiles files = gguf_files();
  files.checkpoint.metadata["tokenizer.ggml.model"] = std::string("llama");
  EXPECT_TRUE(gguf_vocabulary(files.checkpoint)->add_bos);
  files.checkpoint.metadata["tokenizer.ggml.add_bos_token"] = false;
  EXPECT_FALSE(gguf_vocabulary(files.checkpoint)->add_bos);
}

TEST(GgufVocabulary, file_without_vocabulary_says_what_to_give) {
  model::ModelFiles files = gguf_files();
  files.checkpoint.metadata.erase("tokenizer.ggml.tokens");
  EXPECT_THAT(gguf_vocabulary(files.checkpoint).error().message, HasSubstr("--tokenizer"));
}

TEST(LoadText, gguf_ends_turns_with_control_tokens_only_and_takes_its_own_template) {
  model::ModelFiles files = gguf_files();
  files.checkpoint.metadata["tokenizer.chat_template"] = std::string("{{ messages[0].content }}");
  Result<ModelText> text = load_text(Options(), files);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_THAT(text->end_tokens, testing::Contains(3));
  EXPECT_THAT(text->end_tokens, testing::Not(testing::Contains(4)))
      << "a normal token that looks like an end of turn";
  ASSERT_NE(text->chat_template, nullptr);
  EXPECT_EQ(text->chat_template->source(), "{{ messages[0].content }}");
}

TEST(LoadText, chat_template_flag_is_a_path_or_the_template_itself) {
  const model::ModelFiles files = gguf_files();
  EXPECT_EQ(load_text(Options(), files)->chat_template, nullptr);
  Options options;
  options.chat_template = "inline {{ 1 }}";
  EXPECT_EQ(load_text(options, files)->chat_template->source(), "inline {{ 1 }}");
  options.chat_template = "/absent.jinja";
  EXPECT_THAT(load_text(options, files).error().message,
              HasSubstr("--chat-template: cannot open /absent.jinja"));
  options.chat_template = "{% if %}";
  EXPECT_THAT(load_text(options, files).error().message, HasSubstr("--chat-template"));
}

TEST(GenerationConfig, comes_from_the_model_a_path_or_nowhere) {
  model::ModelFiles files = gguf_files();
  files.generation_config = {{"temperature", 0.5}};
  EXPECT_EQ(load_generation_config("auto", files)->at("temperature").as_double(), 0.5);
  EXPECT_TRUE(load_generation_config("vllm", files)->empty());
  std::string pattern = (fs::temp_directory_path() / "donar-gen-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  std::ofstream(fs::path(pattern) / "generation_config.json") << R"({"top_k": 3})";
  EXPECT_EQ(load_generation_config(pattern, files)->at("top_k").as_int64(), 3);
  EXPECT_EQ(
      load_generation_config(pattern + "/generation_config.json", files)->at("top_k").as_int64(),
      3);
  std::ofstream(fs::path(pattern) / "generation_config.json") << "[";
  EXPECT_THAT(load_generation_config(pattern, files).error().message, HasSubstr("malformed"));
  fs::remove_all(pattern);
  EXPECT_THAT(load_generation_config(pattern, files).error().message,
              HasSubstr("--generation-config"));
}

}  // namespace
}  // namespace donar::app
