// Each rule alone on a small row.
#include "engine/sampling_rules.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace donar::engine {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
using Row = std::vector<float>;

TEST(SamplingRules, only_allowed_tokens_keep_their_logits) {
  Row row{1, 2, 3, 4};
  keep_allowed_tokens(row, std::vector<int32_t>{3, 1, 1, 99});
  EXPECT_EQ(row, (Row{kBanned, 2, kBanned, 4}));
}

TEST(SamplingRules, min_tokens_bans_end_and_stop_tokens_until_it_is_reached) {
  SamplingParams params;
  params.min_tokens = 2;
  params.stop_tokens = {3, 99};
  const std::vector<int32_t> eos{0};
  Row row{1, 2, 3, 4};
  apply_min_tokens(row, params, 1, eos);
  EXPECT_EQ(row, (Row{kBanned, 2, 3, kBanned}));
  row = {1, 2, 3, 4};
  apply_min_tokens(row, params, 2, eos);
  EXPECT_EQ(row, (Row{1, 2, 3, 4}));
}

TEST(SamplingRules, a_bad_word_is_banned_at_its_last_token_only_when_the_others_are_there) {
  const std::vector<std::vector<int32_t>> words{{0}, {5, 6, 1}, {6, 2}, {7, 8, 9, 3}};
  Row row{1, 2, 3, 4};
  apply_bad_words(row, words, std::vector<int32_t>{4, 5, 6});
  EXPECT_EQ(row, (Row{kBanned, kBanned, kBanned, 4}));
  row = {1, 2, 3, 4};
  apply_bad_words(row, words, std::vector<int32_t>{5, 6, 4});
  EXPECT_EQ(row, (Row{kBanned, 2, 3, 4}));
  row = {1, 2, 3, 4};
  apply_bad_words(row, words, std::vector<int32_t>{8, 9});  // shorter than the word's beginning
  EXPECT_EQ(row, (Row{kBanned, 2, 3, 4}));
}

TEST(SamplingRules, bias_adds_and_a_ban_stays_a_ban) {
  Row row{1, kBanned, 3};
  apply_logit_bias(
      row, std::vector<LogitBias>{
               {0, -100.0f}, {1, std::numeric_limits<float>::infinity()}, {2, 0.5f}, {9, 1.0f}});
  EXPECT_EQ(row, (Row{-99, kBanned, 3.5f}));
}

TEST(SamplingRules, penalties_count_the_output_and_repetition_counts_the_prompt_too) {
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  params.frequency_penalty = 0.5f;
  params.presence_penalty = 0.25f;
  TokenCounts counts;
  counts.catch_up(std::vector<int32_t>{0, 1, 2}, 2);
  counts.catch_up(std::vector<int32_t>{0, 1, 2, 2, 1}, 2);
  Row row{4, -4, 8, 1};
  apply_penalties(row, params, counts);
  EXPECT_EQ(row, (Row{2, -8 - 0.5f - 0.25f, 4 - 1.0f - 0.25f, 1}));
  EXPECT_TRUE(has_penalties(params));
  EXPECT_FALSE(has_penalties(SamplingParams{}));
}

TEST(SamplingRules, duplicates_are_merged_once_per_request) {
  SamplingParams params;
  params.allowed_tokens = {5, 3, 5, 1};
  params.stop_tokens = {9, 9};
  params.logit_bias = {{4, 1.0f}, {2, 0.5f}, {4, 2.0f}};
  merge_duplicates(params);
  EXPECT_EQ(params.allowed_tokens, (std::vector<int32_t>{1, 3, 5}));
  EXPECT_EQ(params.stop_tokens, std::vector<int32_t>{9});
  ASSERT_EQ(params.logit_bias.size(), 2u);
  EXPECT_EQ(params.logit_bias[0].token, 2);
  EXPECT_EQ(params.logit_bias[1].token, 4);
  EXPECT_EQ(params.logit_bias[1].bias, 3.0f);
}

}  // namespace
}  // namespace donar::engine
