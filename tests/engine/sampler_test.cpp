// The sampler as a whole: the order of its rules, raw logprobs, masked ids, and rows that do not
// depend on each other.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace donar::engine {
namespace {

constexpr int64_t kVocab = 300, kTokens = 290;

// A sequence with the given tokens; its request goes with it.
struct Row {
  explicit Row(const SamplingParams& sampling, std::vector<int32_t> prompt = {1, 2},
               std::vector<int32_t> output = {}, int choice = 0) {
    active = std::make_unique<ActiveRequest>();
    active->request.prompt = std::move(prompt);
    active->request.sampling = sampling;
    if (!sampling.seed) active->request.sampling.seed = 5;
    sequence = std::make_unique<Sequence>(*active, choice);
    sequence->tokens.insert(sequence->tokens.end(), output.begin(), output.end());
  }
  std::unique_ptr<ActiveRequest> active;
  std::unique_ptr<Sequence> sequence;
};

class SamplerTest : public testing::Test {
 protected:
  std::vector<SampledToken> run(std::vector<float> logits, const std::vector<HeadRow>& rows,
                                int num_threads = 2) {
    ThreadPool pool(num_threads);
    Result<Sampler> sampler = Sampler::create(ledger_, kVocab, kTokens, /*eos=*/{7}, num_threads);
    EXPECT_TRUE(sampler.has_value());
    std::vector<SampledToken> out(rows.size());
    sampler->run(pool, logits, rows, out);
    return out;
  }
  SampledToken run_one(const std::vector<float>& logits, Row& row) {
    return run(logits, {{row.sequence.get(), -1}})[0];
  }

  std::vector<float> ascending() const {  // the highest id is the most likely
    std::vector<float> logits(kVocab);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = 0.01f * static_cast<float>(i);
    return logits;
  }
  SamplingParams greedy() const {
    SamplingParams params;
    params.temperature = 0.0f;
    return params;
  }

  MemoryLedger ledger_;
};

TEST_F(SamplerTest, ids_beyond_the_tokenizer_are_never_drawn_or_listed) {
  SamplingParams params = greedy();
  params.num_logprobs = 3;
  Row row(params);
  const SampledToken sampled = run_one(ascending(), row);
  EXPECT_EQ(sampled.token, kTokens - 1);
  ASSERT_EQ(sampled.logprobs.size(), 4u);
  EXPECT_EQ(sampled.logprobs[0].rank, 1);
  EXPECT_EQ(sampled.logprobs[3].token, kTokens - 3);
}

TEST_F(SamplerTest, logprobs_are_those_of_the_raw_logits) {
  SamplingParams params = greedy();
  params.num_logprobs = 1;
  params.logit_bias = {{3, 50.0f}};
  params.repetition_penalty = 1.5f;
  Row row(params);
  const SampledToken sampled = run_one(ascending(), row);
  EXPECT_EQ(sampled.token, 3);
  EXPECT_EQ(sampled.logprobs[0].token, 3);
  EXPECT_EQ(sampled.logprobs[0].rank, kTokens - 3);
  EXPECT_EQ(sampled.logprobs[1].token, kTokens - 1);
  EXPECT_NEAR(sampled.logprobs[1].logprob - sampled.logprobs[0].logprob, 0.01 * (kTokens - 1 - 3),
              1e-4);
}

TEST_F(SamplerTest, rules_meet_in_their_order) {
  SamplingParams params = greedy();
  params.allowed_tokens = {7, 20, 30, 40};
  params.min_tokens = 2;         // bans 7
  params.bad_words = {{9, 40}};  // bans 40 after 9
  params.logit_bias = {{7, 1000.0f}, {40, 1000.0f}, {20, 1.0f}};
  params.frequency_penalty = 2.0f;  // 20 came once: 0.2 + 1.0 - 2.0 < 0.3
  Row row(params, {1, 2}, {20, 9});
  row.active->request.sampling.min_tokens = 3;
  EXPECT_EQ(run_one(ascending(), row).token, 30);
  Row fresh(params, {1, 2}, {});
  EXPECT_EQ(run_one(ascending(), fresh).token, 40);
  params.bad_words = {{40}};
  Row banned(params, {1, 2}, {});
  EXPECT_EQ(run_one(ascending(), banned).token, 20);
}

TEST_F(SamplerTest, when_the_rules_ban_everything_the_allowed_list_wins) {
  SamplingParams params = greedy();
  params.allowed_tokens = {7};
  params.min_tokens = 4;
  Row row(params);
  EXPECT_EQ(run_one(ascending(), row).token, 7);
}

TEST_F(SamplerTest, the_same_seed_position_and_row_give_the_same_token_and_others_differ) {
  std::vector<float> flat(kVocab, 0.0f);
  SamplingParams params;
  params.seed = 11;
  Row a(params), b(params), other_choice(params, {1, 2}, {}, 1),
      other_position(params, {1, 2}, {3});
  params.seed = 12;
  Row next_seed(params);
  EXPECT_EQ(run_one(flat, a).token, run_one(flat, b).token);
  EXPECT_EQ(run_one(flat, other_choice).token,
            run_one(flat, next_seed).token);  // choice i uses seed + i
  std::set<int32_t> tokens{run_one(flat, a).token, run_one(flat, other_choice).token,
                           run_one(flat, other_position).token};
  EXPECT_EQ(tokens.size(), 3u);
}

TEST_F(SamplerTest, a_row_does_not_depend_on_its_neighbours_or_on_threads) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 3);
  constexpr size_t kRows = 37;
  std::vector<float> logits(kRows * kVocab);
  for (float& logit : logits) logit = normal(random);
  std::vector<Row> rows;
  for (size_t i = 0; i < kRows; ++i) {
    SamplingParams params;
    params.seed = i;
    params.top_p = i % 3 == 0 ? 0.8f : 1.0f;
    params.top_k = i % 4 == 0 ? 20 : 0;
    params.min_p = i % 5 == 0 ? 0.05f : 0.0f;
    params.presence_penalty = i % 2 ? 0.7f : 0.0f;
    params.num_logprobs = i % 7 == 0 ? 5 : -1;
    rows.emplace_back(params, std::vector<int32_t>{1, 2},
                      std::vector<int32_t>{static_cast<int32_t>(i), 4});
  }
  std::vector<HeadRow> head;
  for (Row& row : rows) head.push_back({row.sequence.get(), -1});
  const std::vector<SampledToken> together = run(logits, head, 3);
  const std::vector<SampledToken> one_thread = run(logits, head, 1);
  for (size_t i = 0; i < kRows; ++i) {
    const std::vector<float> own(logits.begin() + static_cast<std::ptrdiff_t>(i * kVocab),
                                 logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * kVocab));
    const SampledToken alone = run(own, {head[i]})[0];
    EXPECT_EQ(together[i].token, alone.token) << "row " << i;
    EXPECT_EQ(one_thread[i].token, alone.token) << "row " << i;
    ASSERT_EQ(together[i].logprobs.size(), alone.logprobs.size());
    for (size_t j = 0; j < alone.logprobs.size(); ++j)
      EXPECT_EQ(together[i].logprobs[j].logprob, alone.logprobs[j].logprob);
  }
}

TEST_F(SamplerTest, prompt_rows_tell_about_the_prompt_token_that_follows) {
  SamplingParams params = greedy();
  params.num_prompt_logprobs = 2;
  Row row(params, {1, 250, 3});
  const SampledToken result = run(ascending(), {{row.sequence.get(), 1}})[0];
  ASSERT_EQ(result.logprobs.size(), 3u);
  EXPECT_EQ(result.logprobs[0].token, 250);
  EXPECT_EQ(result.logprobs[0].rank, kTokens - 250);
  EXPECT_EQ(result.logprobs[1].token, kTokens - 1);
}

TEST_F(SamplerTest, its_scratch_is_in_the_ledger_and_goes_home) {
  {
    Result<Sampler> sampler = Sampler::create(ledger_, kVocab, kTokens, {}, 2);
    ASSERT_TRUE(sampler.has_value());
    EXPECT_GE(ledger_.used(MemoryUse::kWorkspace), 2 * (kVocab + kTokens) * sizeof(float));
  }
  EXPECT_EQ(ledger_.total(), 0u);
}

}  // namespace
}  // namespace donar::engine
