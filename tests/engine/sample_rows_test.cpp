// What the device's sampler is told: the same rules at the same positions as the CPU's sampler,
// with and without a token in flight.
#include "engine/sample_rows.h"

#include <gtest/gtest.h>

#include "engine/validate.h"

namespace donar::engine {
namespace {

constexpr int64_t kVocab = 100;

struct Line {
  Line(const SamplingParams& sampling, std::vector<int32_t> prompt, std::vector<int32_t> output,
       bool from_last_step = false) {
    active.request.prompt = std::move(prompt);
    active.request.max_tokens = 50;
    active.request.sampling = sampling;
    if (!sampling.seed) active.request.sampling.seed = 5;
    sequence = std::make_unique<Sequence>(active, /*choice=*/2);
    sequence->tokens.insert(sequence->tokens.end(), output.begin(), output.end());
    sequence->slot = 3;
    line.sequence = sequence.get();
    line.begin = sequence->num_tokens() - (from_last_step ? 0 : 1);
    line.num_tokens = 1;
    line.samples = true;
    line.from_last_step = from_last_step;
  }
  ActiveRequest active;
  std::unique_ptr<Sequence> sequence;
  PlanLine line;
};

SampleRows make_rows(int64_t max_slice_rows = 64) {
  SampleRowLimits limits;
  limits.vocab_size = kVocab;
  limits.max_slice_rows = max_slice_rows;
  limits.eos_tokens = {7, 8};
  return SampleRows(limits);
}

std::vector<std::pair<int32_t, int32_t>> bans_of(const SampleRows& rows) {
  std::vector<std::pair<int32_t, int32_t>> bans;
  for (const ops::TokenBan& ban : rows.bans()) bans.emplace_back(ban.token, ban.after);
  return bans;
}

using Bans = std::vector<std::pair<int32_t, int32_t>>;

TEST(SampleRows, a_plain_row_has_its_seed_its_position_and_no_rules) {
  SamplingParams params;
  params.seed = 40;
  params.top_p = 0.5f;
  params.top_k = 9;
  params.min_p = 0.25f;
  params.temperature = 0.7f;
  const Line line(params, {1, 2, 3}, {4, 5});
  SampleRows rows = make_rows();
  rows.add_draw(line.line);
  ASSERT_EQ(rows.rows().size(), 1u);
  const ops::SampleRow& row = rows.rows()[0];
  EXPECT_EQ(row.kind, ops::SampleKind::kDraw);
  EXPECT_EQ(row.slot, 3);
  EXPECT_EQ(row.counts_slot, -1);
  EXPECT_EQ(row.seed, 42u);     // choice 2
  EXPECT_EQ(row.position, 5u);  // tokens before the one that is drawn
  EXPECT_EQ(row.top_k, 9);
  EXPECT_EQ(row.top_p, 0.5f);
  EXPECT_EQ(row.temperature, 0.7f);
  EXPECT_EQ(row.min_p_distance, ops::min_p_distance(0.25f));
  EXPECT_EQ(row.logprobs_index, -1);
  ASSERT_EQ(rows.slices().size(), 1u);
  EXPECT_TRUE(rows.slices()[0].needs.draws);
  EXPECT_FALSE(rows.slices()[0].needs.rules || rows.slices()[0].needs.logprobs);
  EXPECT_EQ(rows.slices()[0].list_bytes(), 0u);
}

TEST(SampleRows, the_position_counts_the_token_in_flight) {
  const Line line(SamplingParams{}, {1, 2, 3}, {4}, /*from_last_step=*/true);
  SampleRows rows = make_rows();
  rows.add_draw(line.line);
  EXPECT_EQ(rows.rows()[0].position, 5u);
}

TEST(SampleRows, penalties_name_the_counts_and_lists_their_entries) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.frequency_penalty = 0.5f;
  params.logit_bias = {{11, 1.0f}, {12, -2.0f}};
  params.allowed_tokens = {11, 12, 13};
  params.num_logprobs = 2;
  const Line line(params, {1}, {});
  const Line plain(SamplingParams{}, {1}, {});
  SampleRows rows = make_rows();
  rows.add_draw(plain.line);
  rows.add_draw(line.line);
  rows.add_draw(line.line);
  const ops::SampleRow& row = rows.rows()[2];
  EXPECT_EQ(row.counts_slot, 3);
  EXPECT_EQ(row.frequency_penalty, 0.5f);
  EXPECT_EQ(row.bias_begin, 2);
  EXPECT_EQ(row.num_bias, 2);
  EXPECT_EQ(row.allowed_begin, 3);
  EXPECT_EQ(row.num_allowed, 3);
  EXPECT_EQ(row.logprobs_index, 1);
  EXPECT_EQ(rows.bias()[3].bias, -2.0f);
  EXPECT_EQ(rows.num_logprobs(), 2);
  const ops::SampleNeeds& needs = rows.slices()[0].needs;
  EXPECT_TRUE(needs.rules && needs.logprobs && needs.draws);
}

TEST(SampleRows, end_and_stop_tokens_are_banned_until_min_tokens_are_out) {
  SamplingParams params;
  params.min_tokens = 3;
  params.stop_tokens = {20};
  SampleRows rows = make_rows();
  rows.add_draw(Line(params, {1, 2}, {5, 5}).line);  // the third token comes
  EXPECT_EQ(bans_of(rows), (Bans{{7, -1}, {8, -1}, {20, -1}}));
  rows.clear();
  rows.add_draw(Line(params, {1, 2}, {5, 5}, /*from_last_step=*/true).line);  // the fourth
  EXPECT_EQ(bans_of(rows), Bans{});
}

TEST(SampleRows, bad_words_are_compared_with_the_output_and_with_the_token_in_flight) {
  SamplingParams params;
  params.bad_words = {{30}, {4, 31}, {5, 4, 32}, {6, 33}, {9, 5, 4, 34}};
  SampleRows rows = make_rows();
  rows.add_draw(Line(params, {9}, {5, 4}).line);  // the prompt does not count
  EXPECT_EQ(bans_of(rows), (Bans{{30, -1}, {31, -1}, {32, -1}}));
  rows.clear();
  rows.add_draw(Line(params, {9}, {5}, /*from_last_step=*/true).line);
  EXPECT_EQ(bans_of(rows), (Bans{{30, -1}, {31, 4}, {32, 4}, {33, 6}}));
}

TEST(SampleRows, rows_that_do_not_fit_begin_a_slice_with_lists_of_its_own) {
  SamplingParams params;
  for (int32_t token = 0; token < 60; ++token) params.allowed_tokens.push_back(token);
  const Line line(params, {1}, {});
  SampleRows rows = make_rows(/*max_slice_rows=*/2);
  for (int i = 0; i < 3; ++i) rows.add_draw(line.line);  // two lists of 60 are more than 100
  ASSERT_EQ(rows.slices().size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rows.slices()[i].begin, static_cast<int64_t>(i));
    EXPECT_EQ(rows.slices()[i].count, 1);
    EXPECT_EQ(rows.slices()[i].allowed_begin, 60 * i);
    EXPECT_EQ(rows.slices()[i].num_allowed, 60u);
    EXPECT_EQ(rows.rows()[i].allowed_begin, 0);
  }
  rows.clear();
  const Line plain(SamplingParams{}, {1}, {});
  for (int i = 0; i < 5; ++i) rows.add_draw(plain.line);
  ASSERT_EQ(rows.slices().size(), 3u);
  EXPECT_EQ(rows.slices()[1].begin, 2);
  EXPECT_EQ(rows.slices()[2].count, 1);
}

TEST(SampleRows, prompt_rows_score_the_token_that_follows) {
  SamplingParams params;
  params.num_prompt_logprobs = 0;
  const Line line(params, {1, 55, 3}, {});
  SampleRows rows = make_rows();
  rows.add_prompt_logprobs(*line.sequence, 1);
  const ops::SampleRow& row = rows.rows()[0];
  EXPECT_EQ(row.kind, ops::SampleKind::kPromptLogprobs);
  EXPECT_EQ(row.target, 55);
  EXPECT_EQ(row.num_logprobs, 0);
  EXPECT_EQ(row.logprobs_index, 0);
  EXPECT_EQ(row.slot, -1);
}

}  // namespace
}  // namespace donar::engine
