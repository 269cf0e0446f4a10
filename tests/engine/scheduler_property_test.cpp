// Random arrivals, lengths, choices, cancels and preemptions over tiny pools, with and without a
// step in flight: every choice gets exactly its tokens, and all blocks come home. The harness
// checks integrity after every step, the fake model that no block was overwritten.
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/scheduler_harness.h"

namespace donar::engine::test {
namespace {

struct Setting {
  int64_t num_blocks;
  int max_num_seqs;
  int max_num_batched_tokens;
  bool chunked_prefill;
  bool prefix_caching;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) {
  return out << setting.num_blocks << " blocks, " << setting.max_num_seqs << " sequences, "
             << setting.max_num_batched_tokens << " tokens, chunked " << setting.chunked_prefill
             << ", prefix " << setting.prefix_caching;
}

class SchedulerProperties : public testing::TestWithParam<std::tuple<Setting, int>> {
 protected:
  Request random_request(std::mt19937& random, int64_t max_len) {
    const int prompt = 1 + static_cast<int>(random() % static_cast<uint32_t>(max_len * 2 / 3));
    const int max_tokens = static_cast<int>(random() % static_cast<uint32_t>(max_len - prompt + 1));
    // Few distinct beginnings, so that prefixes meet.
    std::vector<int32_t> tokens = fake_prompt(static_cast<int32_t>(random() % 3), prompt);
    if (random() % 3 == 0) tokens[random() % tokens.size()] = 5;
    Request request = fake_request(std::move(tokens), max_tokens);
    request.num_choices = random() % 4 == 0 ? 1 + static_cast<int>(random() % 5) : 1;
    request.sampling.temperature = random() % 2 ? 1.0f : 0.0f;
    request.sampling.seed = random();
    request.sampling.ignore_eos = random() % 2;
    request.sampling.min_tokens = std::min<int>(max_tokens, static_cast<int>(random() % 10));
    request.sampling.num_prompt_logprobs = random() % 5 == 0 ? 0 : -1;
    request.cache_salt = random() % 4 == 0 ? 1 : 0;
    return request;
  }
};

TEST_P(SchedulerProperties, every_choice_gets_its_tokens_and_all_blocks_come_home) {
  const auto [setting, depth] = GetParam();
  int total_preemptions = 0, total_hits = 0;
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    SchedulerConfig config = SchedulerHarness::config();
    config.max_model_len = std::min<int64_t>(setting.num_blocks * kv::kBlockTokens, 160);
    config.max_num_seqs = setting.max_num_seqs;
    config.max_num_batched_tokens =
        setting.chunked_prefill
            ? setting.max_num_batched_tokens
            : std::max(setting.max_num_batched_tokens, static_cast<int>(config.max_model_len));
    config.chunked_prefill = setting.chunked_prefill;
    config.prefix_caching = setting.prefix_caching;
    SchedulerHarness harness(config, setting.num_blocks, depth);
    std::vector<bool> disturbed;
    for (int turn = 0; turn < 400 || harness.has_work(); ++turn) {
      ASSERT_LT(turn, 20000) << "no end in sight";
      if (turn < 400 && random() % 8 == 0) {
        harness.add(random_request(random, config.max_model_len));
        disturbed.push_back(false);
      }
      if (!harness.requests.empty() && random() % 25 == 0) {
        const size_t victim = random() % harness.requests.size();
        Submitted& submitted = *harness.requests[victim];
        disturbed[victim] = disturbed[victim] || !submitted.is_done;
        if (random() % 2) {
          submitted.stream->cancel(FinishReason::kAbort);
        } else {
          submitted.stream->cancel_choice(static_cast<int>(random() % submitted.choices.size()));
        }
      }
      if (random() % 200 == 0) harness.scheduler.forget_cached();
      harness.step();
      total_preemptions += harness.num_preemptions;
      total_hits += harness.num_hits;
    }
    EXPECT_GT(harness.requests.size(), 20u);
    for (size_t i = 0; i < harness.requests.size(); ++i) {
      const Submitted& submitted = *harness.requests[i];
      ASSERT_TRUE(submitted.is_done) << "request " << i;
      if (!disturbed[i]) {
        harness.expect_complete(i);
        const size_t expected = submitted.request.sampling.num_prompt_logprobs < 0
                                    ? 0
                                    : submitted.request.prompt.size();
        EXPECT_EQ(submitted.prompt_logprobs.size(), expected);
        for (size_t p = 1; p < expected; ++p)
          EXPECT_EQ(submitted.prompt_logprobs[p].size(), 1u) << "position " << p;
        continue;
      }
      for (size_t choice = 0; choice < submitted.choices.size();
           ++choice) {  // what came before the cancel is right
        const std::vector<int32_t> whole = fake_output(submitted.request, static_cast<int>(choice));
        const std::vector<int32_t>& got = submitted.choices[choice].tokens;
        ASSERT_LE(got.size(), whole.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), whole.begin()));
        EXPECT_NE(submitted.choices[choice].finish, FinishReason::kNone);
      }
    }
    EXPECT_EQ(harness.scheduler.gauges().free_blocks, setting.num_blocks);
  }
  if (setting.num_blocks < 20) {
    EXPECT_GT(total_preemptions, 0);
  }
  if (setting.prefix_caching) {
    EXPECT_GT(total_hits, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Pools, SchedulerProperties,
                         testing::Combine(testing::Values(Setting{10, 4, 32, true, true},
                                                          Setting{10, 4, 32, true, false},
                                                          Setting{12, 8, 7, true, true},
                                                          Setting{14, 5, 160, false, true},
                                                          Setting{11, 6, 64, false, false},
                                                          Setting{200, 16, 64, true, true}),
                                          testing::Values(0, 1)));

}  // namespace
}  // namespace donar::engine::test
