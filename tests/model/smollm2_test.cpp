// The default model, where it is there: DONAR_SMOLLM2_GGUF names SmolLM2-135M-Instruct.Q4_1.gguf.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

// The model's own chat template around "Hello world".
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

// An independent forward pass in double precision on the dequantized weights of that file: the five
// most likely tokens after the prompt, and the greedy continuation with the distance of each token
// to the second best (log probabilities).
const std::vector<std::pair<int32_t, double>> kTop = {
    {19556, -1.1469}, {57, -2.7571}, {9085, -2.8163}, {28120, -3.6579}, {56, -4.1529}};
const std::vector<int32_t> kGreedy = {19556, 905,  30,  339,  5248, 1535, 288, 724,  351,
                                      750,   1942, 282, 4833, 2385, 1391, 30,  1812, 416,
                                      339,   724,  346, 351,  1834, 47,   2};
const std::vector<double> kGap = {1.61,  0.44,  0.102, 1.339, 3.135, 1.26,  2.798, 0.743, 0.452,
                                  1.053, 1.212, 9.025, 0.362, 1.297, 1.348, 2.066, 0.426, 1.529,
                                  1.611, 0.536, 0.997, 7.379, 0.606, 5.88,  3.154};

int32_t argmax(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Runs on the file of the default model, and on the same weights dequantized to F32, which shows
// that what remains comes from int8 activations alone.
TEST(SmolLM2, continues_the_prompt_as_an_independent_implementation_does) {
  const char* path = std::getenv("DONAR_SMOLLM2_GGUF");
  if (!path) GTEST_SKIP() << "DONAR_SMOLLM2_GGUF is not set";
  const Result<ModelFiles> files = open_model(path);
  ASSERT_OK(files);
  const bool exact = files->precision == "F32";
  const auto runner = Runner::open(path, {.kv = exact ? DType::kF32 : DType::kBF16});
  ASSERT_TRUE(runner);
  EXPECT_EQ(files->config.eos_tokens, std::vector<int32_t>{2});

  const double logprob_tolerance = exact ? 2e-3 : 0.25;
  const double gap_tolerance = exact ? 4e-3 : 0.8;  // a smaller lead may turn around
  auto logits = runner->run(kPrompt, kPrompt.size()).back();
  const std::vector<double> logprobs = log_softmax(logits);
  for (const auto& [id, expected] : kTop)
    EXPECT_NEAR(logprobs[static_cast<size_t>(id)], expected, logprob_tolerance) << "token " << id;
  for (size_t i = 0; i < kGreedy.size(); ++i) {
    if (kGap[i] > gap_tolerance) {
      EXPECT_EQ(argmax(logits), kGreedy[i]) << "greedy token " << i;
    }
    logits = runner->step({{0, {kGreedy[i]}}}).back();
  }

  std::vector<int32_t> ids = runner->greedy(kPrompt, 60);
  const auto end = std::find(ids.begin(), ids.end(), 2);
  ASSERT_NE(end, ids.end()) << "no end of the answer";
  ids.erase(end, ids.end());
  const std::string text = readable(runner->files().checkpoint, ids);
  RecordProperty("text", text);
  EXPECT_NE(text.find("Hello"), std::string::npos) << text;
  EXPECT_NE(text.find("help"), std::string::npos) << text;
}

}  // namespace
}  // namespace donar::model::test
