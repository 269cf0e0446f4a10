// Continuous batching: see scheduler.h. planning is in this file, commit and endings in
// scheduler_commit.cpp.
#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/check.h"

namespace donar::engine {

Scheduler::Scheduler(SchedulerConfig config, int64_t num_blocks)
    : config_(std::move(config)), pool_(num_blocks) {
  DONAR_CHECK(config_.max_num_seqs > 0 && config_.max_num_batched_tokens > 0);
  DONAR_CHECK(config_.chunked_prefill || config_.max_num_batched_tokens >= config_.max_model_len);
}

Result<void> Scheduler::add(std::unique_ptr<ActiveRequest>& request) {
  const Request& asked = request->request;
  const int64_t num_tokens = static_cast<int64_t>(asked.prompt.size()) + asked.max_tokens;
  const int64_t limit = std::min(config_.max_model_len, pool_.num_blocks() * kv::kBlockTokens);
  if (num_tokens > limit) {
    return fail(ErrorCode::kInvalidArgument,
                "{} prompt tokens and {} output tokens are more than the {} that can ever fit",
                asked.prompt.size(), asked.max_tokens, limit);
  }
  // Without prefix caching only the choices of one request share blocks, under a key that no other
  // request has.
  request->cache_extra = config_.prefix_caching ? asked.cache_salt : ++num_added_;
  request->num_open = asked.num_choices;
  request->timing.prompt_tokens = static_cast<int>(asked.prompt.size());
  for (int choice = 0; choice < asked.num_choices; ++choice) {
    request->sequences.push_back(std::make_unique<Sequence>(*request, choice));
    waiting_.push_back(request->sequences.back().get());
  }
  requests_.push_back(std::move(request));
  return {};
}

const StepPlan& Scheduler::schedule() {
  plan_.lines.clear();
  plan_.num_tokens = plan_.num_samples = 0;
  step_ = {};
  budget_ = config_.max_num_batched_tokens;
  plan_running();
  if (step_.preemptions == 0) plan_waiting();  // what was just preempted would only come back
  DONAR_CHECK(!plan_.empty() || idle(), "{} waiting and {} running sequences, but nothing to run",
              waiting_.size(), running_.size());
  return plan_;
}

void Scheduler::plan_running() {
  // make_room only takes sequences from the end, so it never takes one that has its line already.
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    const int num_tokens = std::min(sequence.num_pending(), budget_);
    if (!make_room(sequence, num_tokens)) return;
    add_line(sequence, num_tokens);
  }
}

void Scheduler::plan_waiting() {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (budget_ == 0 || static_cast<int>(running_.size()) == config_.max_num_seqs) return;
    Sequence& sequence = **next;
    if (waits_for_first_choice(sequence)) {
      ++next;
      continue;
    }
    if (!start(sequence)) return;  // first come, first served: nobody overtakes
    next = waiting_.erase(next);
    running_.push_back(&sequence);
    add_line(sequence, std::min(sequence.num_pending(), budget_));
  }
}

bool Scheduler::waits_for_first_choice(const Sequence& sequence) const {
  if (sequence.choice == 0) return false;
  const Sequence& first = *sequence.request.sequences.front();
  return first.state != SequenceState::kFinished && first.num_computed < first.num_prompt() &&
         first.num_output() == 0;
}

bool Scheduler::start(Sequence& sequence) {
  ActiveRequest& request = sequence.request;
  const bool reads_cache = publishes_blocks(request) && !sequence.wants_prompt_logprobs();
  if (reads_cache) {
    // The last token is always computed, since its logits are wanted.
    sequence.num_computed = static_cast<int>(sequence.blocks.adopt_prefix(
        pool_, sequence.tokens, sequence.num_tokens() - 1, request.cache_extra));
  }
  // One block in hand for every running sequence, so that a newcomer is not preempted in the next
  // step.
  const int64_t missing = kv::blocks_for(sequence.num_tokens()) - sequence.blocks.num_blocks();
  const bool has_room = missing + static_cast<int64_t>(running_.size()) <= pool_.num_free() ||
                        (running_.empty() && missing <= pool_.num_free());
  const bool has_budget = config_.chunked_prefill || sequence.num_pending() <= budget_;
  if (!has_room || !has_budget) {
    sequence.blocks.clear();
    sequence.num_computed = 0;
    return false;
  }
  // Room for everything known: a prompt that has started is not preempted for want of its own
  // blocks.
  DONAR_CHECK(sequence.blocks.reserve(pool_, sequence.num_tokens()));
  sequence.state = SequenceState::kRunning;
  if (reads_cache && config_.prefix_caching &&
      sequence.num_output() == 0) {  // not one that comes back
    step_.prefix_queries += sequence.num_tokens();
    step_.prefix_hits += sequence.num_computed;
  }
  if (request.timing.scheduled == TimePoint{}) {
    request.timing.scheduled = Clock::now();
    request.timing.cached_tokens = sequence.num_computed;
    request.queue_slot.reset();
  }
  return true;
}

void Scheduler::add_line(Sequence& sequence, int num_tokens) {
  const bool reaches_end = num_tokens == sequence.num_pending();
  const bool samples = reaches_end && sequence.request.request.max_tokens > 0;
  const bool is_decode =
      num_tokens == 1 && samples && sequence.num_computed >= sequence.num_prompt();
  if (!is_decode) step_.prompt_tokens += num_tokens;
  plan_.lines.push_back({&sequence, num_tokens, samples});
  plan_.num_tokens += num_tokens;
  plan_.num_samples += samples;
  budget_ -= num_tokens;
}

bool Scheduler::make_room(Sequence& sequence, int num_tokens) {
  while (!sequence.blocks.reserve(pool_, sequence.num_computed + num_tokens)) {
    Sequence& newest = *running_.back();
    preempt(newest);
    if (&newest == &sequence) return false;
  }
  return true;
}

void Scheduler::preempt(Sequence& sequence) {
  running_.pop_back();
  sequence.blocks.clear();  // what is published stays findable, so coming back is cheap while
                            // nobody needs the blocks
  sequence.num_computed = 0;
  sequence.state = SequenceState::kWaiting;
  waiting_.push_front(&sequence);
  ++sequence.request.timing.num_preemptions;
  ++step_.preemptions;
}

bool Scheduler::publishes_blocks(const ActiveRequest& request) const {
  return config_.prefix_caching || request.request.num_choices > 1;
}

EngineGauges Scheduler::gauges() const {
  EngineGauges gauges;
  gauges.running = static_cast<int>(running_.size());
  gauges.waiting = static_cast<int>(waiting_.size());
  gauges.num_blocks = pool_.num_blocks();
  gauges.free_blocks = pool_.num_free();
  gauges.kv_usage =
      1.0 - static_cast<double>(gauges.free_blocks) / static_cast<double>(gauges.num_blocks);
  return gauges;
}

void Scheduler::check_integrity() const {
  pool_.check_integrity();
  size_t num_open = 0;
  for (const auto& request : requests_) {
    DONAR_CHECK(request->num_open > 0, "a finished request stayed");
    num_open += static_cast<size_t>(request->num_open);
  }
  DONAR_CHECK(num_open == waiting_.size() + running_.size(),
              "{} open sequences, {} waiting, {} running", num_open, waiting_.size(),
              running_.size());
  for (const Sequence* sequence : waiting_) {
    DONAR_CHECK(sequence->state == SequenceState::kWaiting && sequence->num_computed == 0 &&
                    sequence->blocks.num_blocks() == 0,
                "a waiting sequence holds blocks");
  }
  std::unordered_set<int32_t> held;
  for (const Sequence* sequence : running_) {
    DONAR_CHECK(sequence->state == SequenceState::kRunning);
    DONAR_CHECK(
        sequence->num_computed <= sequence->blocks.capacity_tokens() && sequence->num_pending() > 0,
        "{} of {} tokens computed in {} blocks", sequence->num_computed, sequence->num_tokens(),
        sequence->blocks.num_blocks());
    held.insert(sequence->blocks.ids().begin(), sequence->blocks.ids().end());
  }
  DONAR_CHECK(static_cast<int64_t>(held.size()) == pool_.num_blocks() - pool_.num_free(),
              "{} blocks in tables, {} held", held.size(), pool_.num_blocks() - pool_.num_free());
}

}  // namespace donar::engine
