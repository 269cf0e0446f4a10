// The decoder against hidden states, logits and greedy tokens of the reference library, for every
// supported family; and the promise that a row's result depends on that row alone.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include "model/load_plan.h"
#include "model/tensor_names.h"
#include "ops/linear.h"
#include "tests/model/batching.h"
#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

struct TinyModel {
  const char* name;
  const char* file;  // "" for the directory
};

std::ostream& operator<<(std::ostream& out, const TinyModel& model) {
  return out << model.name << (*model.file ? "_gguf" : "");
}

class TinyModels : public testing::TestWithParam<TinyModel> {
 protected:
  fs::path path() const {
    const fs::path directory = tiny(GetParam().name);
    return *GetParam().file ? directory / GetParam().file : directory;
  }
  void SetUp() override {
    golden_ = open_golden(tiny(GetParam().name) / "logits.safetensors");
    for (const int64_t id : read_tensor<int64_t>(golden_, "input_ids"))
      ids_.push_back(static_cast<int32_t>(id));
    for (const int64_t id : read_tensor<int64_t>(golden_, "greedy"))
      greedy_.push_back(static_cast<int32_t>(id));
    logits_ = read_tensor<float>(golden_, "logits");
    ASSERT_EQ(ids_.size(), 25u);
    ASSERT_EQ(greedy_.size(), 8u);
  }

  Checkpoint golden_;
  std::vector<int32_t> ids_, greedy_;
  std::vector<float> logits_;  // [25, vocab]
};

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                 float tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  size_t worst = 0;
  for (size_t i = 1; i < actual.size(); ++i)
    if (!(std::abs(actual[i] - expected[i]) <= std::abs(actual[worst] - expected[worst])))
      worst = i;
  EXPECT_LE(std::abs(actual[worst] - expected[worst]), tolerance)
      << what << ": element " << worst << ": expected " << expected[worst] << ", found "
      << actual[worst];
}

std::vector<float> flat(const std::vector<std::vector<float>>& rows) {
  std::vector<float> out;
  for (const auto& row : rows) out.insert(out.end(), row.begin(), row.end());
  return out;
}

TEST_P(TinyModels, fp32_hidden_states_logits_and_greedy_tokens_equal_the_reference) {
  const auto runner = Runner::open(path(), {.dtype = DType::kF32});
  ASSERT_TRUE(runner);
  std::vector<std::vector<float>> entering;
  std::vector<float> final_hidden;
  const auto logits = runner->step({{0, ids_}}, &entering, &final_hidden);
  for (size_t i = 0; i < entering.size(); ++i)
    expect_near(entering[i], read_tensor<float>(golden_, fmt::format("hidden.{}", i)), 1e-3f,
                fmt::format("input of layer {}", i));
  expect_near(final_hidden, read_tensor<float>(golden_, fmt::format("hidden.{}", entering.size())),
              1e-3f, "after the final norm");
  expect_near(flat(logits), logits_, 1e-3f, "logits");
  EXPECT_EQ(runner->greedy(ids_, 8), greedy_);
}

TEST_P(TinyModels, bf16_stays_within_the_tolerance_of_the_architecture) {
  const auto runner = Runner::open(path(), {.kv = DType::kBF16});
  ASSERT_TRUE(runner);
  const auto logits = runner->run(ids_, ids_.size());
  const size_t vocab = logits[0].size();
  double worst = 0.0, sum = 0.0;
  for (size_t row = 0; row < logits.size(); ++row) {
    const auto expected = log_softmax({logits_.begin() + static_cast<int64_t>(row * vocab),
                                       logits_.begin() + static_cast<int64_t>((row + 1) * vocab)});
    const auto actual = log_softmax(logits[row]);
    for (size_t i = 0; i < vocab; ++i) {
      worst = std::max(worst, std::abs(actual[i] - expected[i]));
      sum += std::abs(actual[i] - expected[i]);
    }
  }
  const double mean = sum / static_cast<double>(logits.size() * vocab);
  RecordProperty("worst_logprob_difference", fmt::format("{:.4f}", worst));
  RecordProperty("mean_logprob_difference", fmt::format("{:.4f}", mean));
  EXPECT_LT(worst, 0.25);
  EXPECT_LT(mean, 0.04);
}

TEST_P(TinyModels, chunked_equals_whole_bit_for_bit) {
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kF32)}) {
    const auto runner = Runner::open(path(), {.dtype = dtype, .kv = DType::kBF16});
    ASSERT_TRUE(runner);
    const auto whole = runner->run(ids_, ids_.size());
    for (const size_t chunk : {1u, 3u, 16u, 17u})
      EXPECT_EQ(runner->run(ids_, chunk), whole) << "chunks of " << chunk;
  }
}

TEST_P(TinyModels, batched_equals_alone_bit_for_bit) {
  const auto runner = Runner::open(path(), {.kv = DType::kBF16});
  ASSERT_TRUE(runner);
  std::vector<std::vector<int32_t>> prompts(4);
  for (size_t s = 0; s < prompts.size(); ++s)
    for (size_t i = 0; i < 9 + 5 * s; ++i)
      prompts[s].push_back(ids_[(i * (s + 1) + s) % ids_.size()]);
  expect_batched_equals_alone(*runner, prompts);
}

TEST_P(TinyModels, the_result_does_not_depend_on_threads) {
  const auto one = Runner::open(path(), {.threads = 1});
  const auto four = Runner::open(path(), {.threads = 4});
  ASSERT_TRUE(one && four);
  EXPECT_EQ(one->run(ids_, ids_.size()), four->run(ids_, ids_.size()));
}

INSTANTIATE_TEST_SUITE_P(, TinyModels,
                         testing::Values(TinyModel{"llama", ""}, TinyModel{"llama", "model.gguf"},
                                         TinyModel{"llama_bias_tied", ""},
                                         TinyModel{"llama_new_keys", ""},
                                         TinyModel{"mistral_window", ""}, TinyModel{"qwen2", ""},
                                         TinyModel{"qwen2_window", ""}, TinyModel{"qwen2_yarn", ""},
                                         TinyModel{"qwen3", ""}),
                         testing::PrintToStringParamName());

TEST(Decoder, gguf_and_safetensors_of_one_model_agree) {
  const auto gguf = Runner::open(tiny("llama") / "model.gguf", {.dtype = DType::kF32});
  const auto directory = Runner::open(tiny("llama"), {.dtype = DType::kF32});
  ASSERT_TRUE(gguf && directory);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back((7 * i * i + 3 * i + 1) % 61);
  // The weights are bitwise the same; the frequencies went through rope_freqs.weight.
  expect_near(flat(gguf->run(ids, ids.size())), flat(directory->run(ids, ids.size())), 2e-4f,
              "logits");
}

// The same model as a GGUF file: tensors under their other names, and q and k (rows and biases) in
// the order of architecture llama.
std::string as_gguf(const ModelFiles& files, const std::string& architecture, GgufWriter writer) {
  const ModelConfig& config = files.config;
  const auto u32 = [&](const std::string& key, int64_t value) {
    writer.u32(architecture + key, static_cast<uint32_t>(value));
  };
  writer.text("general.architecture", architecture);
  u32(".block_count", static_cast<int64_t>(config.layers.size()));
  u32(".context_length", config.max_position);
  u32(".embedding_length", config.dim);
  u32(".feed_forward_length", config.ffn_dim);
  u32(".attention.head_count", config.q_heads);
  u32(".attention.head_count_kv", config.kv_heads);
  u32(".attention.key_length", config.head_dim);
  u32(".attention.value_length", config.head_dim);
  writer.f32(architecture + ".attention.layer_norm_rms_epsilon", config.rms_eps);
  writer.f32(architecture + ".rope.freq_base", static_cast<float>(config.rope.theta));

  const auto copy = [&](const std::string& from, const std::string& to, int heads = 0) {
    for (const std::string suffix : {".weight", ".bias"}) {
      const auto found = files.checkpoint.tensors.find(from + suffix);
      if (found == files.checkpoint.tensors.end()) continue;
      const std::vector<char> stored = read_tensor<char>(files.checkpoint, from + suffix);
      const std::vector<int64_t>& shape = found->second.shape;
      std::string data(stored.begin(), stored.end());
      if (heads > 0 && architecture == "llama") {
        const size_t row_bytes = stored.size() / static_cast<size_t>(shape[0]);
        for (int64_t row = 0; row < shape[0]; ++row)
          std::memcpy(
              data.data() + static_cast<size_t>(permuted_row(row, shape[0] / heads)) * row_bytes,
              stored.data() + static_cast<size_t>(row) * row_bytes, row_bytes);
      }
      writer.tensor(to + suffix, {shape.rbegin(), shape.rend()}, /*type=*/30, data);
    }
  };
  const TensorNames from = tensor_names(Checkpoint::Container::kSafetensors);
  const TensorNames to = tensor_names(Checkpoint::Container::kGguf);
  copy(from.embedding, to.embedding);
  copy(from.final_norm, to.final_norm);
  copy(from.head, to.head);
  for (int i = 0; i < static_cast<int>(config.layers.size()); ++i) {
    const LayerNames a = from.layer(i), b = to.layer(i);
    copy(a.q, b.q, config.q_heads);
    copy(a.k, b.k, config.kv_heads);
    for (const auto name : {&LayerNames::attn_norm, &LayerNames::ffn_norm, &LayerNames::v,
                            &LayerNames::attn_out, &LayerNames::q_norm, &LayerNames::k_norm,
                            &LayerNames::gate, &LayerNames::up, &LayerNames::down})
      copy(a.*name, b.*name);
  }
  return writer.bytes();
}

TEST(Decoder, every_family_gives_the_same_bits_from_gguf) {
  struct Case {
    const char* name;
    const char* architecture;
    GgufWriter keys;
  };
  GgufWriter window, yarn;
  window.u32("llama.attention.sliding_window", 4);
  yarn.text("qwen2.rope.scaling.type", "yarn").f32("qwen2.rope.scaling.factor", 4.0f);
  yarn.u32("qwen2.rope.scaling.original_context_length", 128);
  const Case cases[] = {{"llama_bias_tied", "llama", {}},
                        {"mistral_window", "llama", window},
                        {"qwen2", "qwen2", {}},
                        {"qwen2_yarn", "qwen2", yarn},
                        {"qwen3", "qwen3", {}}};
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 30; ++i) ids.push_back((11 * i * i + 5 * i + 2) % 61);
  for (const Case& item : cases) {
    SCOPED_TRACE(item.name);
    const auto directory = Runner::open(tiny(item.name), {});
    ASSERT_TRUE(directory);
    const TempDir dir;
    const auto gguf = Runner::open(
        dir.write("model.gguf", as_gguf(directory->files(), item.architecture, item.keys)), {});
    ASSERT_TRUE(gguf);
    EXPECT_EQ(gguf->run(ids, ids.size()), directory->run(ids, ids.size()));
  }
}

TEST(Decoder, hidden_states_are_those_of_the_sampled_rows_in_their_order) {
  const auto runner = Runner::open(tiny("llama"), {});
  ASSERT_TRUE(runner);
  const std::vector<int32_t> ids{1, 2, 3, 4, 5};
  const auto all = runner->run(ids, ids.size());
  for (const std::vector<int32_t>& samples : {std::vector<int32_t>{4}, {3, 0, 3}, {}}) {
    runner->restart(0);
    const auto some = runner->step({{0, ids}}, nullptr, nullptr, &samples);
    ASSERT_EQ(some.size(), samples.size());
    for (size_t i = 0; i < samples.size(); ++i)
      EXPECT_EQ(some[i], all[static_cast<size_t>(samples[i])]) << "sample " << i;
  }
}

TEST(Decoder, capture_keeps_the_layers_that_were_asked_for) {
  const auto runner = Runner::open(tiny("llama"), {});
  ASSERT_TRUE(runner);
  std::vector<std::vector<float>> entering;
  const auto with = runner->step({{0, {7, 8, 9}}}, &entering);
  ASSERT_EQ(entering.size(), 3u);
  std::vector<float> embedded(3 * 32);
  for (int64_t i = 0; i < 3; ++i)
    ops::unpack_packed_row(runner->weights().embedding, 7 + i, embedded.data() + i * 32);
  EXPECT_EQ(entering[0], embedded);
  runner->restart(0);
  EXPECT_EQ(runner->step({{0, {7, 8, 9}}}), with) << "capturing must not change the result";
}

TEST(Decoder, a_window_hides_what_is_further_away) {
  const auto runner =
      Runner::open(tiny("mistral_window"), {.dtype = DType::kF32});  // window 4, two layers
  ASSERT_TRUE(runner);
  std::vector<int32_t> a, b;
  for (int32_t i = 0; i < 20; ++i) a.push_back((5 * i + 3) % 61);
  b = a;
  b[0] = (b[0] + 1) % 61;  // reaches position 6 through two layers of three steps back each
  const auto first = runner->run(a, a.size()), second = runner->run(b, b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(first[i] == second[i], i > 6) << "position " << i;
}

}  // namespace
}  // namespace donar::model::test
