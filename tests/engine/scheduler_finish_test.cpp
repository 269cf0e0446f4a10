// How a choice ends: end token, stop token, length, cancel, abort; and what its last event says.
#include <gtest/gtest.h>

#include "tests/engine/scheduler_harness.h"

namespace donar::engine::test {
namespace {

// One request whose tokens the test dictates.
class Dictated {
 public:
  explicit Dictated(Request request, std::vector<int32_t> eos_tokens = {2, 3})
      : scheduler_(
            [&] {
              SchedulerConfig config = SchedulerHarness::config();
              config.eos_tokens = std::move(eos_tokens);
              return config;
            }(),
            16) {
    auto active = std::make_unique<ActiveRequest>();
    active->request = std::move(request);
    active->stream = std::make_shared<StreamState>();
    EXPECT_TRUE(scheduler_.add(active).has_value());
  }
  TokenEvent draw(int32_t token) {
    const StepPlan& plan = scheduler_.schedule();
    StepResult result;
    if (plan.num_samples == 1) result.sampled.push_back({token, {{token, -0.5f, 1}}});
    std::vector<Update> updates = scheduler_.commit(std::move(result));
    EXPECT_EQ(updates.size(), 1u);
    return std::move(updates.at(0).event);
  }
  bool idle() const { return scheduler_.idle(); }

 private:
  Scheduler scheduler_;
};

TEST(SchedulerFinish, an_end_token_of_the_model_ends_with_stop_and_is_the_last_token) {
  Dictated run(fake_request({10, 11}, 5));
  EXPECT_EQ(run.draw(20).finish, FinishReason::kNone);
  const TokenEvent last = run.draw(3);
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_EQ(last.tokens, std::vector<int32_t>{3});
  EXPECT_TRUE(last.ended_by_token);
  EXPECT_FALSE(last.stop_token);
  EXPECT_TRUE(run.idle());
}

TEST(SchedulerFinish, a_stop_token_is_named) {
  Request request = fake_request({10}, 5);
  request.sampling.stop_tokens = {40, 41};
  Dictated run(request);
  const TokenEvent last = run.draw(41);
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_TRUE(last.ended_by_token);
  EXPECT_EQ(last.stop_token, 41);
}

TEST(SchedulerFinish, ignore_eos_goes_on_past_end_tokens_but_not_past_stop_tokens) {
  Request request = fake_request({10}, 5);
  request.sampling.ignore_eos = true;
  request.sampling.stop_tokens = {3};
  Dictated run(request);
  const TokenEvent first = run.draw(2);
  EXPECT_EQ(first.finish, FinishReason::kNone);
  EXPECT_FALSE(first.ended_by_token);
  const TokenEvent last = run.draw(3);
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_EQ(last.stop_token, 3);
}

TEST(SchedulerFinish, max_tokens_ends_with_length_and_an_end_token_in_the_last_place_with_stop) {
  Dictated run(fake_request({10}, 2));
  run.draw(20);
  const TokenEvent last = run.draw(21);
  EXPECT_EQ(last.finish, FinishReason::kLength);
  EXPECT_FALSE(last.ended_by_token);
  Dictated other(fake_request({10}, 1));
  EXPECT_EQ(other.draw(2).finish, FinishReason::kStop);
}

TEST(SchedulerFinish, max_tokens_zero_runs_the_prompt_and_draws_nothing) {
  Request request = fake_request({10, 11, 12}, 0);
  request.sampling.num_prompt_logprobs = 0;
  Dictated run(request);
  const TokenEvent only = run.draw(20);
  EXPECT_TRUE(only.tokens.empty());
  EXPECT_EQ(only.finish, FinishReason::kLength);
  EXPECT_EQ(only.prompt_logprobs.size(), 3u);
  EXPECT_TRUE(run.idle());
}

TEST(SchedulerFinish, logprobs_come_with_their_token_only_if_asked_for) {
  Request request = fake_request({10}, 2);
  Dictated quiet(request);
  EXPECT_TRUE(quiet.draw(20).logprobs.empty());
  request.sampling.num_logprobs = 0;
  Dictated run(request);
  const TokenEvent event = run.draw(20);
  ASSERT_EQ(event.logprobs.size(), 1u);
  EXPECT_EQ(event.logprobs[0][0].token, 20);
}

TEST(SchedulerFinish,
     a_cancelled_request_ends_all_choices_with_the_reason_and_gives_its_blocks_back) {
  SchedulerHarness harness(SchedulerHarness::config(), 32);
  Request request = fake_request(fake_prompt(1, 20), 100);
  request.sampling.ignore_eos = true;
  request.num_choices = 3;
  harness.add(request);
  for (int i = 0; i < 3; ++i) harness.step();
  EXPECT_LT(harness.scheduler.gauges().free_blocks, 32);
  harness.requests[0]->stream->cancel(FinishReason::kStop);
  harness.requests[0]->stream->cancel(FinishReason::kAbort);  // too late: the first reason stays
  EXPECT_TRUE(harness.step().empty());
  for (const ChoiceOutput& choice : harness.requests[0]->choices)
    EXPECT_EQ(choice.finish, FinishReason::kStop);
  EXPECT_TRUE(harness.requests[0]->is_done);
  EXPECT_TRUE(harness.scheduler.idle());
  EXPECT_EQ(harness.scheduler.gauges().free_blocks, 32);
}

TEST(SchedulerFinish, a_cancelled_choice_ends_alone_and_twice_is_once) {
  SchedulerHarness harness(SchedulerHarness::config(), 32);
  Request request = fake_request(fake_prompt(1, 20), 20);
  request.sampling.ignore_eos = true;
  request.num_choices = 2;
  harness.add(request);
  for (int i = 0; i < 4; ++i) harness.step();
  for (int choice : {1, 1, 7, -1}) harness.requests[0]->stream->cancel_choice(choice);
  harness.step();
  EXPECT_EQ(harness.requests[0]->choices[1].finish, FinishReason::kStop);
  EXPECT_FALSE(harness.requests[0]->choices[1].last.ended_by_token);
  harness.requests[0]->stream->cancel_choice(1);
  harness.run_until_idle();
  EXPECT_EQ(harness.requests[0]->choices[0].tokens.size(), 20u);
  EXPECT_EQ(harness.requests[0]->choices[0].finish, FinishReason::kLength);
}

TEST(SchedulerFinish, a_waiting_request_can_be_cancelled) {
  SchedulerConfig config = SchedulerHarness::config();
  config.max_num_seqs = 1;
  SchedulerHarness harness(config, 32);
  harness.add(fake_request(fake_prompt(1, 20), 5));
  harness.add(fake_request(fake_prompt(2, 20), 5));
  harness.step();
  harness.requests[1]->stream->cancel(FinishReason::kAbort);
  harness.step();
  EXPECT_EQ(harness.requests[1]->choices[0].finish, FinishReason::kAbort);
  EXPECT_EQ(harness.requests[1]->timing.scheduled, TimePoint{});
  harness.run_until_idle();
  harness.expect_complete(0);
}

TEST(SchedulerFinish, abort_all_ends_everything_with_the_error) {
  SchedulerHarness harness(SchedulerHarness::config(), 32);
  Request request = fake_request(fake_prompt(1, 20), 50);
  request.num_choices = 2;
  harness.add(request);
  harness.add(fake_request(fake_prompt(2, 20), 50));
  harness.step();
  harness.take(harness.scheduler.abort_all(FinishReason::kError,
                                           Error{ErrorCode::kInternal, "device lost", {}}));
  harness.scheduler.check_integrity();
  EXPECT_TRUE(harness.scheduler.idle());
  for (const auto& submitted : harness.requests) {
    EXPECT_TRUE(submitted->is_done);
    for (const ChoiceOutput& choice : submitted->choices) {
      EXPECT_EQ(choice.finish, FinishReason::kError);
      ASSERT_TRUE(choice.last.error);
      EXPECT_EQ(choice.last.error->message, "device lost");
    }
  }
  EXPECT_EQ(harness.scheduler.gauges().free_blocks, 32);
}

}  // namespace
}  // namespace donar::engine::test
