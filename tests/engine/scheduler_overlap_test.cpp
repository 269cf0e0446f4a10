// Pipeline depth 1: a step is scheduled while the one before it is in flight. What is counted, what
// is dropped, what is never exceeded; and the tokens are those of depth 0.
#include <gtest/gtest.h>

#include "tests/engine/scheduler_harness.h"

namespace donar::engine::test {
namespace {

Request endless(int32_t first, int prompt, int max_tokens) {
  Request request = fake_request(fake_prompt(first, prompt), max_tokens);
  request.sampling.ignore_eos = true;
  return request;
}

// Draws what the test says; steps are launched and committed by hand.
class ByHand {
 public:
  explicit ByHand(SchedulerConfig config = SchedulerHarness::config(), int64_t num_blocks = 16)
      : scheduler(std::move(config), num_blocks) {}

  ActiveRequest* add(Request request) {
    auto active = std::make_unique<ActiveRequest>();
    active->request = std::move(request);
    active->stream = std::make_shared<StreamState>();
    ActiveRequest* added = active.get();
    EXPECT_TRUE(scheduler.add(active).has_value());
    return added;
  }
  std::vector<PlanLine> schedule() {
    const StepPlan& plan = scheduler.schedule();
    scheduler.check_integrity();
    if (!plan.empty()) num_samples_.push_back(plan.num_samples);
    return plan.lines;
  }
  // Every line of the oldest step draws `token`.
  std::vector<Update> commit(int32_t token) {
    StepResult result;
    result.sampled.resize(static_cast<size_t>(num_samples_.front()), {token, {}});
    num_samples_.pop_front();
    std::vector<Update> updates = scheduler.commit(std::move(result));
    scheduler.check_integrity();
    return updates;
  }

  Scheduler scheduler;

 private:
  std::deque<int> num_samples_;
};

TEST(SchedulerOverlap, the_token_in_flight_is_scheduled_before_it_is_known) {
  ByHand run;
  run.add(endless(1, 10, 5));
  const std::vector<PlanLine> prompt = run.schedule();
  ASSERT_EQ(prompt.size(), 1u);
  EXPECT_TRUE(prompt[0].samples && prompt[0].starts && !prompt[0].from_last_step);
  const int slot = prompt[0].sequence->slot;
  const std::vector<PlanLine> next = run.schedule();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].begin, 10);
  EXPECT_EQ(next[0].num_tokens, 1);
  EXPECT_TRUE(next[0].samples && next[0].from_last_step && !next[0].starts);
  EXPECT_EQ(next[0].sequence->slot, slot);
  const std::vector<Update> updates = run.commit(20);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].event.tokens, std::vector<int32_t>{20});
  EXPECT_EQ(run.schedule()[0].begin, 11);
}

TEST(SchedulerOverlap, a_block_for_the_token_in_flight_is_taken_when_scheduling) {
  ByHand run;
  run.add(endless(1, 16, 5));
  const Sequence& sequence = *run.schedule()[0].sequence;
  EXPECT_EQ(sequence.blocks.num_blocks(), 1);
  run.schedule();
  EXPECT_EQ(sequence.blocks.num_blocks(), 2);
}

TEST(SchedulerOverlap, a_token_that_reaches_max_tokens_is_not_scheduled_again) {
  ByHand run;
  run.add(endless(1, 10, 2));
  run.schedule();
  EXPECT_EQ(run.schedule().size(), 1u);
  EXPECT_EQ(run.commit(20).size(), 1u);
  EXPECT_TRUE(run.schedule().empty());  // the second and last token is in flight
  EXPECT_FALSE(run.scheduler.idle());
  const std::vector<Update> last = run.commit(21);
  EXPECT_EQ(last.at(0).event.finish, FinishReason::kLength);
  EXPECT_TRUE(run.scheduler.idle());
  EXPECT_EQ(run.scheduler.num_in_flight(), 0);
}

TEST(SchedulerOverlap, what_ran_once_more_after_its_end_is_dropped) {
  ByHand run;
  run.add(fake_request(fake_prompt(1, 10), 50));
  run.schedule();
  run.schedule();
  const std::vector<Update> updates = run.commit(kFakeEos);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].event.finish, FinishReason::kStop);
  EXPECT_TRUE(updates[0].finished);
  EXPECT_TRUE(run.scheduler.idle());
  EXPECT_EQ(run.scheduler.num_in_flight(), 1);
  EXPECT_EQ(run.scheduler.gauges().free_blocks, 16);
  EXPECT_TRUE(run.schedule().empty());
  EXPECT_TRUE(run.commit(30).empty());
  EXPECT_EQ(run.scheduler.step_stats().generated_tokens, 0);
  EXPECT_EQ(run.scheduler.num_in_flight(), 0);
}

TEST(SchedulerOverlap, a_request_that_is_cancelled_in_flight_leaves_nothing_behind) {
  ByHand run;
  Request request = endless(1, 10, 50);
  request.num_choices = 3;
  request.sampling.temperature = 1.0f;
  ActiveRequest* active = run.add(request);
  run.schedule();
  run.schedule();
  run.commit(20);
  run.schedule();  // all three choices have a line in flight now
  active->stream->cancel(FinishReason::kAbort);
  EXPECT_EQ(run.scheduler.take_cancelled().size(), 3u);
  run.scheduler.check_integrity();
  run.add(endless(2, 10, 3));  // takes the slot and the blocks
  EXPECT_EQ(run.commit(21).size(), 0u);
  EXPECT_EQ(run.schedule().size(), 1u);
  EXPECT_EQ(run.commit(22).size(), 0u);
  EXPECT_EQ(run.commit(23).size(), 1u);
}

TEST(SchedulerOverlap, a_sequence_preempted_in_flight_keeps_what_it_draws) {
  SchedulerConfig config = SchedulerHarness::config();
  config.prefix_caching = false;
  ByHand run(config, 5);
  run.add(endless(1, 31, 30));
  run.add(endless(2, 31, 30));
  ASSERT_EQ(run.schedule().size(), 2u);               // both prompts: four blocks
  const std::vector<PlanLine> next = run.schedule();  // position 31 of both
  ASSERT_EQ(next.size(), 2u);
  Sequence& second = *next[1].sequence;
  run.commit(20);
  const std::vector<PlanLine> alone = run.schedule();  // position 32: only one block is left
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(second.state, SequenceState::kWaiting);
  EXPECT_EQ(second.num_lines_in_flight, 1);
  EXPECT_EQ(run.commit(21).size(), 2u);
  EXPECT_EQ(second.tokens.back(), 21);
  EXPECT_EQ(second.num_output(), 2);
  EXPECT_EQ(second.num_computed, 0);
  EXPECT_EQ(second.num_lines_in_flight, 0);
}

TEST(SchedulerOverlap, slots_stay_with_their_sequence_and_are_used_again) {
  SchedulerConfig config = SchedulerHarness::config();
  config.max_num_seqs = 2;
  SchedulerHarness harness(config, 64, /*depth=*/1);
  for (int i = 0; i < 6; ++i) harness.add(endless(i, 5, 3 + i));
  std::map<const Sequence*, int> slots;
  while (harness.has_work()) {
    const StepPlan& plan = harness.step();
    for (const PlanLine& line : plan.lines) {
      if (!line.sequence) continue;
      const auto [place, is_new] = slots.try_emplace(line.sequence, line.sequence->slot);
      EXPECT_TRUE(is_new || line.sequence->slot < 0 || place->second == line.sequence->slot);
    }
  }
  for (size_t i = 0; i < 6; ++i) harness.expect_complete(i);
}

TEST(SchedulerOverlap, both_depths_give_the_same_tokens_with_preemptions_and_choices) {
  const auto outputs = [](int depth) {
    SchedulerConfig config = SchedulerHarness::config();
    config.max_model_len = 160;
    SchedulerHarness harness(config, 14, depth);
    for (int i = 0; i < 12; ++i) {
      Request request = fake_request(fake_prompt(i % 4, 20 + i * 5), 60);
      request.num_choices = 1 + i % 3;
      request.sampling.temperature = 1.0f;
      request.sampling.seed = static_cast<uint64_t>(i);
      request.sampling.ignore_eos = i % 2 == 0;
      request.sampling.num_prompt_logprobs = i % 5 == 0 ? 0 : -1;
      harness.add(request);
    }
    int preemptions = 0;
    while (harness.has_work()) {
      harness.step();
      preemptions += harness.num_preemptions;
    }
    EXPECT_GT(preemptions, 0);
    std::vector<std::vector<int32_t>> tokens;
    for (const auto& submitted : harness.requests)
      for (const ChoiceOutput& choice : submitted->choices) tokens.push_back(choice.tokens);
    return tokens;
  };
  EXPECT_EQ(outputs(0), outputs(1));
}

TEST(SchedulerOverlap, abort_all_ends_what_is_in_flight_too) {
  SchedulerHarness harness(SchedulerHarness::config(), 32, /*depth=*/1);
  harness.add(endless(1, 20, 50));
  harness.add(endless(2, 20, 50));
  harness.step();
  EXPECT_EQ(harness.scheduler.num_in_flight(), 1);
  harness.take(harness.scheduler.abort_all(FinishReason::kError,
                                           Error{ErrorCode::kInternal, "device lost", {}}));
  harness.scheduler.check_integrity();
  EXPECT_TRUE(harness.scheduler.idle());
  EXPECT_EQ(harness.scheduler.gauges().free_blocks, 32);
}

}  // namespace
}  // namespace donar::engine::test
