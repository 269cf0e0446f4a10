// Drives a Scheduler by hand: requests in, steps run by the fake model, events kept per choice,
// integrity checked after every step.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "engine/scheduler.h"
#include "tests/engine/fake_runner.h"

namespace donar::engine::test {

struct ChoiceOutput {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  TokenEvent last;
};

struct Submitted {
  Request request;
  std::shared_ptr<StreamState> stream;
  std::vector<ChoiceOutput> choices;
  std::vector<PositionLogprobs> prompt_logprobs;
  int cached_tokens = -1;
  bool is_done = false;
  RequestTiming timing;
};

class SchedulerHarness {
 public:
  SchedulerHarness(const SchedulerConfig& config, int64_t num_blocks, int depth = 0)
      : config_(config), scheduler(config, num_blocks), runner(num_blocks, depth) {}
  // Steps run there instead of on the fake model.
  void run_on(StepRunner& other) { stepper_ = &other; }

  static SchedulerConfig config() {
    SchedulerConfig config;
    config.max_model_len = 1024;
    config.max_num_seqs = 8;
    config.max_num_batched_tokens = 64;
    config.eos_tokens = {kFakeEos};
    return config;
  }

  // The index of the request in `requests`.
  size_t add(Request request) {
    auto active = std::make_unique<ActiveRequest>();
    auto submitted = std::make_unique<Submitted>();
    submitted->request = request;
    submitted->choices.resize(static_cast<size_t>(request.num_choices));
    submitted->stream = active->stream = std::make_shared<StreamState>();
    active->request = std::move(request);
    active->timing.arrived = Clock::now();
    by_request_[active.get()] = submitted.get();
    EXPECT_TRUE(scheduler.add(active).has_value());
    requests.push_back(std::move(submitted));
    return requests.size() - 1;
  }

  // One turn of the engine's loop. The plan is valid until the next one.
  const StepPlan& step() {
    take(scheduler.take_cancelled());
    scheduler.check_integrity();
    const StepPlan& plan = scheduler.schedule();
    scheduler.check_integrity();
    check_plan(plan);
    plan_sizes.clear();
    for (const PlanLine& line : plan.lines) plan_sizes.push_back(line.num_tokens);
    if (!plan.empty()) {
      EXPECT_TRUE(stepper_->launch(plan).has_value());
    }
    num_computed_tokens += plan.num_tokens;
    num_preemptions = num_hits = 0;
    const int depth = plan.empty() ? 0 : stepper_->depth();
    while (scheduler.num_in_flight() > depth) {
      Result<StepResult> result = stepper_->collect();
      take(scheduler.commit(std::move(*result)));
      scheduler.check_integrity();
      num_preemptions += scheduler.step_stats().preemptions;
      num_hits += static_cast<int>(scheduler.step_stats().prefix_hits);
    }
    return plan;
  }
  bool has_work() const { return !scheduler.idle() || scheduler.num_in_flight() > 0; }

  // Returns the number of steps.
  int run_until_idle(int max_steps = 100000) {
    int steps = 0;
    for (; has_work(); ++steps) {
      if (steps == max_steps) {
        ADD_FAILURE() << "not idle after " << max_steps << " steps";
        break;
      }
      step();
    }
    return steps;
  }

  void take(std::vector<Update> updates) {
    for (Update& update : updates) {
      Submitted& submitted = *by_request_.at(update.request);
      ChoiceOutput& choice = submitted.choices.at(static_cast<size_t>(update.event.choice));
      EXPECT_FALSE(submitted.is_done);
      EXPECT_EQ(choice.finish, FinishReason::kNone) << "an event after the last one";
      choice.tokens.insert(choice.tokens.end(), update.event.tokens.begin(),
                           update.event.tokens.end());
      choice.logprobs.insert(choice.logprobs.end(), update.event.logprobs.begin(),
                             update.event.logprobs.end());
      choice.finish = update.event.finish;
      if (!update.event.prompt_logprobs.empty()) {
        EXPECT_TRUE(submitted.prompt_logprobs.empty());
        submitted.prompt_logprobs = update.event.prompt_logprobs;
      }
      if (submitted.cached_tokens < 0) submitted.cached_tokens = update.event.cached_tokens;
      choice.last = std::move(update.event);
      submitted.is_done = update.finished != nullptr;
      submitted.timing = update.request->timing;
      if (update.finished) by_request_.erase(update.request);
    }
  }

  // Every choice got exactly what the fake model says.
  void expect_complete(size_t index) {
    const Submitted& submitted = *requests[index];
    EXPECT_TRUE(submitted.is_done) << "request " << index;
    for (size_t choice = 0; choice < submitted.choices.size(); ++choice) {
      EXPECT_EQ(submitted.choices[choice].tokens,
                fake_output(submitted.request, static_cast<int>(choice)))
          << "request " << index << ", choice " << choice;
    }
  }

 private:
  void check_plan(const StepPlan& plan) const {
    int num_tokens = 0, num_samples = 0;
    std::set<int> slots;
    for (const PlanLine& line : plan.lines) {
      EXPECT_GT(line.num_tokens, 0);
      const Sequence& sequence = *line.sequence;
      EXPECT_EQ(line.end(), sequence.num_scheduled);
      EXPECT_LE(line.end(), sequence.num_tokens() + line.from_last_step);
      EXPECT_EQ(line.from_last_step, line.begin == sequence.num_tokens());
      EXPECT_GE(sequence.blocks.capacity_tokens(), line.end());
      const Request& request = sequence.request.request;
      if (line.samples) {
        EXPECT_LT(line.end() - sequence.num_prompt(), request.max_tokens);
      }
      EXPECT_TRUE(slots.insert(sequence.slot).second) << "slot " << sequence.slot;
      EXPECT_LT(sequence.slot, config_.max_num_seqs);
      num_tokens += line.num_tokens;
      num_samples += line.samples;
    }
    EXPECT_EQ(num_tokens, plan.num_tokens);
    EXPECT_EQ(num_samples, plan.num_samples);
    EXPECT_LE(plan.num_tokens, config_.max_num_batched_tokens);
    EXPECT_LE(static_cast<int>(plan.lines.size()), config_.max_num_seqs);
  }

  const SchedulerConfig config_;
  std::map<const ActiveRequest*, Submitted*> by_request_;

 public:
  Scheduler scheduler;
  FakeRunner runner;
  std::vector<std::unique_ptr<Submitted>> requests;
  std::vector<int> plan_sizes;  // tokens per line of the last step
  int num_computed_tokens = 0;
  int num_preemptions = 0, num_hits = 0;  // of the steps that the last turn committed

 private:
  StepRunner* stepper_ = &runner;
};

}  // namespace donar::engine::test
