// The default model, where it is there: DONAR_SMOLLM2_GGUF names SmolLM2-135M-Instruct.Q4_1.gguf.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

// <|im_start|>system ...<|im_end|> user "What is gravity?" <|im_end|> <|im_start|>assistant
const std::vector<int32_t> kPrompt = {
    1,   9690,  198,  2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28,  7018, 411,
    407, 19712, 8182, 2,    198, 1,   4093, 198,  28120, 905,  2,    198, 1,     520, 9531, 198};

// Byte-level BPE writes the bytes of a token as printable characters; here only what plain English
// needs.
std::string readable(const Checkpoint& checkpoint, const std::vector<int32_t>& ids) {
  const auto& tokens =
      std::get<std::vector<std::string>>(checkpoint.metadata.at("tokenizer.ggml.tokens"));
  std::string text;
  for (const int32_t id : ids) text += tokens[static_cast<size_t>(id)];
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>("\xc4\xa0", " "), {"\xc4\x8a", "\n"}})
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from))
      text.replace(at, from.size(), to);
  return text;
}

TEST(SmolLM2, writes_sensible_text) {
  const char* path = std::getenv("DONAR_SMOLLM2_GGUF");
  if (!path) GTEST_SKIP() << "DONAR_SMOLLM2_GGUF is not set";
  const auto runner = Runner::open(path, {.kv = DType::kBF16});
  ASSERT_TRUE(runner);
  EXPECT_EQ(runner->files().precision, "Q4_1");
  EXPECT_EQ(runner->files().config.eos_tokens, std::vector<int32_t>{2});
  const std::vector<int32_t> ids = runner->greedy(kPrompt, 40);
  const std::string text = readable(runner->files().checkpoint, ids);
  std::printf("[ greedy   ] %s\n", text.c_str());
  const auto prompt_logits = runner->run(kPrompt, kPrompt.size());
  const auto logprobs = log_softmax(prompt_logits.back());
  std::vector<int32_t> order(logprobs.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::partial_sort(order.begin(), order.begin() + 5, order.end(), [&](int32_t a, int32_t b) {
    return logprobs[static_cast<size_t>(a)] > logprobs[static_cast<size_t>(b)];
  });
  for (int i = 0; i < 5; ++i)
    std::printf("[ top %d    ] %d %.4f\n", i + 1, order[static_cast<size_t>(i)],
                logprobs[static_cast<size_t>(order[static_cast<size_t>(i)])]);
}

}  // namespace
}  // namespace donar::model::test
