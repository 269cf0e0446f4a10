// Scheduling rules one at a time: budget, order, preemption, prefix sharing, choices of one
// request.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include "tests/engine/scheduler_harness.h"

namespace donar::engine::test {
namespace {

using Sizes = std::vector<int>;

Request long_request(int32_t first, int prompt, int max_tokens) {
  Request request = fake_request(fake_prompt(first, prompt), max_tokens);
  request.sampling.ignore_eos = true;
  return request;
}

TEST(Scheduler, a_long_prompt_runs_in_chunks_of_the_budget_and_samples_at_its_end) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  harness.add(long_request(1, 150, 3));
  EXPECT_EQ(harness.step().num_samples, 0);
  EXPECT_EQ(harness.plan_sizes, Sizes{64});
  EXPECT_EQ(harness.step().num_samples, 0);
  EXPECT_EQ(harness.step().num_samples, 1);
  EXPECT_EQ(harness.plan_sizes, Sizes{22});
  harness.step();
  EXPECT_EQ(harness.plan_sizes, Sizes{1});
  EXPECT_EQ(harness.run_until_idle(), 1);
  harness.expect_complete(0);
}

TEST(Scheduler, running_sequences_come_before_waiting_ones_and_share_the_budget_with_a_prompt) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  harness.add(long_request(1, 10, 8));
  harness.step();
  harness.add(long_request(2, 100, 4));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, (Sizes{1, 63}));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, (Sizes{1, 37}));
  harness.run_until_idle();
  harness.expect_complete(0);
  harness.expect_complete(1);
}

TEST(Scheduler, no_more_than_max_num_seqs_run_at_once_and_the_next_starts_when_one_ends) {
  SchedulerConfig config = SchedulerHarness::config();
  config.max_num_seqs = 2;
  SchedulerHarness harness(config, 64);
  for (int i = 0; i < 3; ++i) harness.add(long_request(i, 5, 2));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, (Sizes{5, 5}));
  EXPECT_EQ(harness.scheduler.gauges().waiting, 1);
  harness.step();
  harness.step();
  EXPECT_EQ(harness.plan_sizes, Sizes{5});
  harness.run_until_idle();
  for (size_t i = 0; i < 3; ++i) harness.expect_complete(i);
}

TEST(Scheduler, without_chunked_prefill_a_prompt_waits_until_it_fits_whole) {
  SchedulerConfig config = SchedulerHarness::config();
  config.chunked_prefill = false;
  config.max_model_len = config.max_num_batched_tokens = 128;
  SchedulerHarness harness(config, 64);
  harness.add(long_request(1, 100, 3));
  harness.add(long_request(2, 60, 3));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, Sizes{100});
  harness.step();
  EXPECT_EQ(harness.plan_sizes, (Sizes{1, 60}));
  harness.run_until_idle();
  harness.expect_complete(0);
  harness.expect_complete(1);
}

TEST(Scheduler, out_of_blocks_the_newest_gives_way_and_comes_back_first) {
  SchedulerConfig config = SchedulerHarness::config();
  config.prefix_caching = false;
  SchedulerHarness harness(config, 8);
  harness.add(long_request(1, 30, 90));  // ends with 8 blocks
  harness.add(long_request(2, 30, 40));
  harness.step();
  harness.add(long_request(3, 10, 4));  // behind both
  int preemptions = 0;
  for (int i = 0; i < 200 && !harness.scheduler.idle(); ++i) {
    harness.step();
    preemptions += harness.scheduler.step_stats().preemptions;
    if (preemptions == 1 && harness.scheduler.step_stats().preemptions == 1) {
      EXPECT_EQ(harness.plan_sizes.size(), 1u);  // the oldest goes on
    }
  }
  EXPECT_GE(preemptions, 1);
  EXPECT_EQ(harness.requests[0]->timing.num_preemptions, 0);
  EXPECT_GE(harness.requests[1]->timing.num_preemptions, 1);
  for (size_t i = 0; i < 3; ++i) harness.expect_complete(i);
  EXPECT_EQ(harness.scheduler.gauges().free_blocks, 8);
}

TEST(Scheduler, a_second_request_finds_the_first_ones_prompt_and_reports_it) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  harness.add(long_request(1, 40, 2));
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[0]->cached_tokens, 0);
  harness.add(long_request(1, 40, 2));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, Sizes{8});
  EXPECT_EQ(harness.scheduler.step_stats().prefix_queries, 40);
  EXPECT_EQ(harness.scheduler.step_stats().prefix_hits, 32);
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[1]->cached_tokens, 32);
  EXPECT_EQ(harness.requests[1]->timing.cached_tokens, 32);
  harness.expect_complete(1);
}

TEST(Scheduler, a_full_hit_still_computes_the_last_token) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  harness.add(long_request(1, 48, 1));
  harness.run_until_idle();
  harness.add(long_request(1, 48, 1));
  EXPECT_EQ(harness.step().num_samples, 0 + 1);
  EXPECT_EQ(harness.plan_sizes, Sizes{16});  // its block is computed again, into a block of its own
  harness.expect_complete(1);
}

TEST(Scheduler, generated_tokens_are_found_too_as_in_the_next_turn_of_a_chat) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  const size_t first = harness.add(long_request(1, 20, 30));
  harness.run_until_idle();
  std::vector<int32_t> next = fake_prompt(1, 20);
  const std::vector<int32_t>& output = harness.requests[first]->choices[0].tokens;
  next.insert(next.end(), output.begin(), output.end());
  harness.add(fake_request(next, 2));
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[1]->cached_tokens, 48);
  harness.expect_complete(1);
}

TEST(Scheduler, nothing_is_shared_across_salts_after_a_reset_or_without_prefix_caching) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  Request salted = long_request(1, 40, 1);
  salted.cache_salt = 5;
  harness.add(salted);
  harness.run_until_idle();
  harness.add(long_request(1, 40, 1));
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[1]->cached_tokens, 0);
  harness.add(salted);
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[2]->cached_tokens, 32);
  harness.scheduler.forget_cached();
  harness.add(salted);
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[3]->cached_tokens, 0);

  SchedulerConfig config = SchedulerHarness::config();
  config.prefix_caching = false;
  SchedulerHarness plain(config, 64);
  for (int i = 0; i < 2; ++i) {
    plain.add(long_request(1, 40, 1));
    plain.run_until_idle();
  }
  EXPECT_EQ(plain.requests[1]->cached_tokens, 0);
}

TEST(Scheduler, prompt_logprobs_read_no_cached_prefix_but_leave_one) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  Request scored = long_request(1, 100, 2);
  scored.sampling.num_prompt_logprobs = 0;
  harness.add(scored);
  harness.run_until_idle();
  harness.add(scored);
  harness.run_until_idle();
  harness.add(long_request(1, 100, 2));
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[1]->cached_tokens, 0);
  EXPECT_EQ(harness.requests[2]->cached_tokens, 96);
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<PositionLogprobs>& logprobs = harness.requests[i]->prompt_logprobs;
    ASSERT_EQ(logprobs.size(), 100u);
    EXPECT_TRUE(logprobs[0].empty());
    for (size_t position = 1; position < 100; ++position) {
      ASSERT_EQ(logprobs[position].size(), 1u);
      EXPECT_EQ(logprobs[position][0].token, scored.prompt[position]);
      EXPECT_EQ(logprobs[position][0].logprob, -static_cast<float>(position - 1));
    }
  }
}

TEST(Scheduler, choices_compute_the_prompt_once_with_and_without_prefix_caching) {
  for (bool prefix_caching : {true, false}) {
    SCOPED_TRACE(prefix_caching);
    SchedulerConfig config = SchedulerHarness::config();
    config.prefix_caching = prefix_caching;
    SchedulerHarness harness(config, 64);
    Request request = long_request(1, 100, 4);
    request.num_choices = 4;
    request.sampling.temperature = 1.0f;
    request.sampling.seed = 77;
    harness.add(request);
    harness.step();
    EXPECT_EQ(harness.plan_sizes, Sizes{64});  // the others wait
    harness.add(long_request(2, 10, 1));
    harness.step();
    EXPECT_EQ(harness.plan_sizes, (Sizes{36, 10}));  // and hold nobody up
    harness.step();
    EXPECT_EQ(harness.plan_sizes, (Sizes{1, 4, 4, 4}));
    harness.run_until_idle();
    harness.expect_complete(0);
    EXPECT_EQ(harness.requests[0]->cached_tokens, 0);
    EXPECT_EQ(harness.requests[0]->timing.generated_tokens, 16);
    EXPECT_EQ(harness.scheduler.gauges().free_blocks, 64);
  }
}

TEST(Scheduler, choices_go_on_when_the_first_one_is_cancelled_before_its_prompt_is_done) {
  SchedulerHarness harness(SchedulerHarness::config(), 64);
  Request request = long_request(1, 100, 4);
  request.num_choices = 2;
  harness.add(request);
  harness.step();
  harness.requests[0]->stream->cancel_choice(0);
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[0]->choices[0].finish, FinishReason::kStop);
  EXPECT_TRUE(harness.requests[0]->choices[0].tokens.empty());
  EXPECT_EQ(harness.requests[0]->choices[1].tokens, fake_output(request, 1));
  EXPECT_TRUE(harness.requests[0]->is_done);
}

TEST(Scheduler, a_newcomer_waits_while_it_would_be_preempted_at_once) {
  SchedulerHarness harness(SchedulerHarness::config(), 4);
  harness.add(long_request(1, 16, 30));
  harness.step();  // holds one block, needs a second one in the next step
  harness.add(long_request(2, 48, 1));
  harness.step();
  EXPECT_EQ(harness.plan_sizes, Sizes{1});
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[1]->timing.num_preemptions, 0);
  harness.expect_complete(1);
}

TEST(Scheduler, add_refuses_what_can_never_fit_and_leaves_it_with_the_caller) {
  SchedulerConfig config = SchedulerHarness::config();
  config.max_model_len = 100;
  Scheduler by_length(config, 64);
  auto request = std::make_unique<ActiveRequest>();
  request->request = long_request(1, 90, 11);
  EXPECT_FALSE(by_length.add(request).has_value());
  ASSERT_TRUE(request);
  Scheduler by_blocks(SchedulerHarness::config(), 6);
  request->request = long_request(1, 90, 7);
  const Result<void> refused = by_blocks.add(request);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("96"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(by_blocks.idle());
}

}  // namespace
}  // namespace donar::engine::test
