// The decoder on a CUDA device against the reference library, for every supported family; and the
// promise that up to 64 rows of short sequences give the same bits alone, batched, padded and from
// a graph. Skipped without a device, unless DONAR_REQUIRE_CUDA is set.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/batching.h"
#include "tests/model/cuda_runner.h"

namespace donar::model::test {
namespace {

struct CudaModel {
  const char* name;
  const char* file;            // "" for the directory
  std::optional<DType> dtype;  // nullopt: as stored, BF16
};

std::ostream& operator<<(std::ostream& out, const CudaModel& model) {
  return out << model.name << (*model.file ? "_gguf" : "")
             << (model.dtype == DType::kF16 ? "_f16" : "");
}

int32_t argmax(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Log probabilities of some rows against others: their largest and mean distance.
class LogprobDistance {
 public:
  void add(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    const std::vector<double> a = log_softmax(actual), e = log_softmax(expected);
    for (size_t i = 0; i < a.size(); ++i) {
      const double distance = std::fabs(a[i] - e[i]);
      if (!(distance <= worst_)) worst_ = std::isnan(distance) ? INFINITY : distance, token_ = i;
      sum_ += distance;
      ++count_;
    }
  }
  // What bfloat16 is allowed (f16 has eight times as many steps, and is held to it too).
  void expect_within(const std::string& what) const {
    EXPECT_LT(worst_, 0.25) << what << ": token " << token_;
    EXPECT_LT(sum_ / static_cast<double>(count_), 0.04) << what;
  }
  double worst() const { return worst_; }
  double mean() const { return sum_ / static_cast<double>(count_); }

 private:
  double worst_ = 0, sum_ = 0;
  size_t token_ = 0, count_ = 0;
};

class CudaModels : public testing::TestWithParam<CudaModel> {
 protected:
  void SetUp() override {
    const Result<CudaDevice> device = cuda_test_device();
    if (!device) {
      if (std::getenv("DONAR_REQUIRE_CUDA") != nullptr) FAIL() << device.error().message;
      GTEST_SKIP() << device.error().message;
    }
    device_ = *device;
    golden_ = open_golden(tiny(GetParam().name) / "logits.safetensors");
    for (const int64_t id : read_tensor<int64_t>(golden_, "input_ids"))
      ids_.push_back(static_cast<int32_t>(id));
    for (const int64_t id : read_tensor<int64_t>(golden_, "greedy"))
      greedy_.push_back(static_cast<int32_t>(id));
    const std::vector<float> logits = read_tensor<float>(golden_, "logits");
    ASSERT_EQ(ids_.size(), 25u);
    ASSERT_EQ(greedy_.size(), 8u);
    const auto vocab = static_cast<int64_t>(logits.size() / ids_.size());
    for (int64_t row = 0; row < 25; ++row)
      logits_.emplace_back(logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab);
  }

  std::unique_ptr<CudaRunner> open(bool batch_invariant = false) const {
    const fs::path directory = tiny(GetParam().name);
    CudaRunner::Options options;
    options.dtype = GetParam().dtype;
    options.batch_invariant = batch_invariant;
    return CudaRunner::open(*GetParam().file ? directory / GetParam().file : directory, device_,
                            options);
  }
  // Prompts of at most 16 tokens, 49 together: sequences like these keep their bits in company.
  std::vector<std::vector<int32_t>> short_prompts() const {
    std::vector<std::vector<int32_t>> prompts(4);
    const size_t lengths[] = {9, 11, 13, 16};
    for (size_t s = 0; s < prompts.size(); ++s)
      for (size_t i = 0; i < lengths[s]; ++i)
        prompts[s].push_back(ids_[(i * (s + 1) + s) % ids_.size()]);
    return prompts;
  }
  void expect_golden(const std::vector<std::vector<float>>& logits, const std::string& what) {
    ASSERT_EQ(logits.size(), logits_.size()) << what;
    LogprobDistance distance;
    for (size_t row = 0; row < logits.size(); ++row) distance.add(logits[row], logits_[row]);
    RecordProperty("worst_logprob_difference", fmt::format("{:.4f}", distance.worst()));
    RecordProperty("mean_logprob_difference", fmt::format("{:.4f}", distance.mean()));
    distance.expect_within(what);
  }

  CudaDevice device_;
  Checkpoint golden_;
  std::vector<int32_t> ids_, greedy_;
  std::vector<std::vector<float>> logits_;  // [25][vocab]
};

// |actual - expected| / |expected| over all values.
double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    error += std::pow(double{actual[i]} - double{expected[i]}, 2);
    size += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error / size);
}

TEST_P(CudaModels, hidden_states_and_logits_stay_within_the_tolerance) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  std::vector<std::vector<float>> entering;
  std::vector<float> final_hidden;
  CudaRunner::StepOptions options;
  options.entering = &entering;
  options.final_hidden = &final_hidden;
  const auto logits = runner->step({{0, ids_}}, options);
  // Layer by layer, so that a failure names the first one that goes astray.
  for (size_t i = 0; i < entering.size(); ++i)
    EXPECT_LT(relative_error(entering[i], read_tensor<float>(golden_, fmt::format("hidden.{}", i))),
              0.04)
        << "input of layer " << i;
  EXPECT_LT(relative_error(final_hidden,
                           read_tensor<float>(golden_, fmt::format("hidden.{}", entering.size()))),
            0.04)
      << "after the final norm";
  expect_golden(logits, "logits");
}

TEST_P(CudaModels, greedy_tokens_are_those_of_the_reference) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  std::vector<float> last = runner->run(ids_, ids_.size()).back();
  for (size_t i = 0; i < greedy_.size(); ++i) {
    EXPECT_EQ(argmax(last), greedy_[i])
        << "token " << i << ": " << last[static_cast<size_t>(argmax(last))] << " against "
        << last[static_cast<size_t>(greedy_[i])];
    last = runner->step({{0, {greedy_[i]}}}).back();
  }
}

// The products of more than 64 rows are other kernels, and so is attention of long pieces.
TEST_P(CudaModels, many_rows_stay_within_the_tolerance_too) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  std::vector<StepRows> step;
  for (int s = 0; s < 4; ++s) step.push_back({s, ids_});
  const auto logits = runner->step(step);
  ASSERT_EQ(logits.size(), 4 * ids_.size());
  for (size_t s = 0; s < 4; ++s)
    expect_golden({logits.begin() + static_cast<int64_t>(s * ids_.size()),
                   logits.begin() + static_cast<int64_t>((s + 1) * ids_.size())},
                  fmt::format("sequence {} of 100 rows", s));
}

TEST_P(CudaModels, chunked_stays_within_the_tolerance_and_small_chunks_give_the_same_bits) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  const auto single = runner->run(ids_, 1);
  expect_golden(single, "one token at a time");
  for (const size_t chunk : {2u, 3u, 16u})
    EXPECT_EQ(runner->run(ids_, chunk), single) << "chunks of " << chunk;
  for (const size_t chunk : {17u, 20u})
    expect_golden(runner->run(ids_, chunk), fmt::format("chunks of {}", chunk));
}

TEST_P(CudaModels, batch_invariant_steps_of_any_size_give_the_same_bits) {
  const auto runner = open(/*batch_invariant=*/true);
  ASSERT_TRUE(runner);
  const auto whole = runner->run(ids_, ids_.size());
  expect_golden(whole, "whole");
  for (const size_t chunk : {1u, 3u, 16u, 17u})
    EXPECT_EQ(runner->run(ids_, chunk), whole) << "chunks of " << chunk;
  std::vector<StepRows> step;
  for (int s = 0; s < 4; ++s) {
    runner->restart(s);
    step.push_back({s, ids_});
  }
  const auto logits = runner->step(step);  // 100 rows
  for (size_t row = 0; row < logits.size(); ++row)
    EXPECT_EQ(logits[row], whole[row % ids_.size()]) << "row " << row << " of four sequences";
}

TEST_P(CudaModels, batched_equals_alone_bit_for_bit) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  const auto prompts = short_prompts();
  expect_batched_equals_alone(*runner, prompts);
}

TEST_P(CudaModels, padded_steps_and_graphs_give_the_bits_of_plain_ones) {
  const auto runner = open();
  ASSERT_TRUE(runner);
  const auto prompts = short_prompts();
  std::vector<StepRows> first, next;
  for (int s = 0; s < 4; ++s) {
    first.push_back({s, prompts[static_cast<size_t>(s)]});
    next.push_back({s, {ids_[static_cast<size_t>(s)]}});
  }
  const auto expected = runner->step(first);
  const auto expected_next = runner->step(next);
  for (const bool graph : {false, true}) {
    for (const int padding : {0, 1, 11, 80}) {
      // Beyond 64 rows the products are other kernels: those steps are only near.
      for (int s = 0; s < 4; ++s) runner->restart(s);
      CudaRunner::StepOptions options;
      options.graph = graph;
      options.padding = padding;
      const std::string what = fmt::format("{} with {} rows of padding",
                                           graph ? "a graph" : "kernel by kernel", padding);
      const auto actual = runner->step(first, options);
      const auto actual_next = runner->step(next, options);
      if (padding < 16) {
        EXPECT_EQ(actual, expected) << what;
        EXPECT_EQ(actual_next, expected_next) << what;
      } else {
        LogprobDistance distance;
        for (size_t row = 0; row < expected.size(); ++row) distance.add(actual[row], expected[row]);
        distance.expect_within(what);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    , CudaModels,
    testing::Values(CudaModel{"llama", "", {}}, CudaModel{"llama", "model.gguf", {}},
                    CudaModel{"llama", "", DType::kF16}, CudaModel{"llama_bias_tied", "", {}},
                    CudaModel{"llama_new_keys", "", {}}, CudaModel{"mistral_window", "", {}},
                    CudaModel{"qwen2", "", {}}, CudaModel{"qwen2", "", DType::kF16},
                    CudaModel{"qwen2_window", "", {}}, CudaModel{"qwen2_yarn", "", {}},
                    CudaModel{"qwen3", "", {}}),
    testing::PrintToStringParamName());

class CudaDecoder : public testing::Test {
 protected:
  void SetUp() override {
    const Result<CudaDevice> device = cuda_test_device();
    if (!device) {
      if (std::getenv("DONAR_REQUIRE_CUDA") != nullptr) FAIL() << device.error().message;
      GTEST_SKIP() << device.error().message;
    }
    device_ = *device;
  }
  CudaDevice device_;
};

TEST_F(CudaDecoder, hidden_states_are_those_of_the_sampled_rows_in_their_order) {
  const auto runner = CudaRunner::open(tiny("llama"), device_, {});
  ASSERT_TRUE(runner);
  const std::vector<int32_t> ids{1, 2, 3, 4, 5};
  const auto all = runner->run(ids, ids.size());
  for (const std::vector<int32_t>& samples : {std::vector<int32_t>{4}, {3, 0, 3}}) {
    runner->restart(0);
    CudaRunner::StepOptions options;
    options.sampled_rows = &samples;
    const auto some = runner->step({{0, ids}}, options);
    ASSERT_EQ(some.size(), samples.size());
    for (size_t i = 0; i < samples.size(); ++i)
      EXPECT_EQ(some[i], all[static_cast<size_t>(samples[i])]) << "sample " << i;
  }
}

TEST_F(CudaDecoder, tokens_of_the_step_before_are_read_on_the_device) {
  const auto runner = CudaRunner::open(tiny("qwen2"), device_, {});
  ASSERT_TRUE(runner);
  const auto expected = runner->step({{0, {7, 11, 13}}, {1, {17}}});
  for (int s : {0, 1}) runner->restart(s);
  CudaRunner::StepOptions options;
  options.previous = {17, 0, 13};
  EXPECT_EQ(runner->step({{0, {7, 11, -3}}, {1, {-1}}}, options), expected);
}

TEST_F(CudaDecoder, a_window_hides_what_is_further_away) {
  // Window 4, two layers: token 0 reaches position 6 through two layers of three steps back each.
  const auto runner = CudaRunner::open(tiny("mistral_window"), device_, {});
  ASSERT_TRUE(runner);
  for (const int length : {14, 40}) {  // decode-like, and a piece of a prompt
    std::vector<int32_t> a, b;
    for (int32_t i = 0; i < length; ++i) a.push_back((5 * i + 3) % 61);
    b = a;
    b[0] = (b[0] + 1) % 61;
    const auto first = runner->run(a, a.size()), second = runner->run(b, b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_EQ(first[i] == second[i], i > 6) << "position " << i << " of " << length;
  }
}

// Contexts of several blocks, where a sequence's keys lie between those of others.
TEST_F(CudaDecoder, long_contexts_stay_near_the_cpu) {
  for (const char* name : {"llama", "qwen3", "mistral_window"}) {
    CudaRunner::Options options;
    options.max_positions = 128;
    const auto cuda = CudaRunner::open(tiny(name), device_, options);
    const auto cpu = Runner::open(tiny(name), {.kv = DType::kBF16, .max_rows = 128});
    ASSERT_TRUE(cuda && cpu);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 120; ++i) ids.push_back((7 * i * i + 3 * i + 1) % 61);
    const auto expected = cpu->run(ids, ids.size());
    for (const size_t chunk : {size_t{120}, size_t{50}, size_t{7}}) {
      const auto actual = cuda->run(ids, chunk, /*sequence=*/2);
      ASSERT_EQ(actual.size(), expected.size());
      LogprobDistance distance;
      for (size_t row = 0; row < actual.size(); ++row) distance.add(actual[row], expected[row]);
      distance.expect_within(fmt::format("{} in chunks of {}", name, chunk));
    }
  }
}

}  // namespace
}  // namespace donar::model::test
