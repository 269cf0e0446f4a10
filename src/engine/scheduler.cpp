// Continuous batching: see scheduler.h. planning is in this file, commit and endings in
// scheduler_commit.cpp.
#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/check.h"

namespace donar::engine {
namespace {

struct InFlight {  // of one sequence, over the plans
  int num_lines = 0;
  int num_drawing = 0;
  int num_tokens = 0;
};

}  // namespace

Scheduler::Scheduler(SchedulerConfig config, int64_t num_blocks)
    : config_(std::move(config)), pool_(num_blocks) {
  DONAR_CHECK(config_.max_num_seqs > 0 && config_.max_num_batched_tokens > 0);
  DONAR_CHECK(config_.chunked_prefill || config_.max_num_batched_tokens >= config_.max_model_len);
  for (int slot = config_.max_num_seqs; slot-- > 0;) free_slots_.push_back(slot);
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
  DONAR_CHECK(num_in_flight_ <= kMaxDepth, "{} steps in flight", num_in_flight_);
  StepPlan& plan = plan_in_flight(num_in_flight_);
  // An empty plan is never committed, so what it has to report waits for the next one.
  if (!plan.empty()) plan.stats = {};
  plan.lines.clear();
  plan.num_tokens = plan.num_samples = 0;
  plan_ = &plan;
  budget_ = config_.max_num_batched_tokens;
  const int num_preemptions = plan.stats.preemptions;
  plan_running();
  // What was just preempted would only come back.
  if (plan.stats.preemptions == num_preemptions) plan_waiting();
  DONAR_CHECK(!plan.empty() || idle() || num_in_flight_ > 0,
              "{} waiting and {} running sequences, but nothing to run", waiting_.size(),
              running_.size());
  if (!plan.empty()) ++num_in_flight_;
  return plan;
}

void Scheduler::plan_running() {
  // make_room only takes sequences from the end, so it never takes one that has its line already.
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    const int num_tokens = std::min(sequence.num_pending(), budget_);
    if (num_tokens == 0) continue;  // ends with the step in flight
    if (!make_room(sequence, num_tokens)) return;
    add_line(sequence, num_tokens, /*starts=*/false);
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
    add_line(sequence, std::min(sequence.num_pending(), budget_), /*starts=*/true);
  }
}

bool Scheduler::waits_for_first_choice(const Sequence& sequence) const {
  if (sequence.choice == 0) return false;
  const Sequence& first = *sequence.request.sequences.front();
  return first.state != SequenceState::kFinished && first.num_computed < first.num_prompt() &&
         first.num_output() == 0;
}

bool Scheduler::start(Sequence& sequence) {
  // A preempted sequence comes back one step later at the earliest, when all of it is known.
  DONAR_CHECK(sequence.num_lines_in_flight == 0);
  ActiveRequest& request = sequence.request;
  const bool reads_cache = publishes_blocks(request) && !sequence.wants_prompt_logprobs();
  if (reads_cache) {
    // The last token is always computed, since its logits are wanted.
    sequence.num_computed = static_cast<int>(sequence.blocks.adopt_prefix(
        pool_, sequence.tokens, sequence.num_tokens() - 1, request.cache_extra));
    sequence.num_scheduled = sequence.num_computed;
  }
  // One block in hand for every running sequence, so that a newcomer is not preempted in the next
  // step.
  const int64_t missing = kv::blocks_for(sequence.num_tokens()) - sequence.blocks.num_blocks();
  const bool has_room = missing + static_cast<int64_t>(running_.size()) <= pool_.num_free() ||
                        (running_.empty() && missing <= pool_.num_free());
  const bool has_budget = config_.chunked_prefill || sequence.num_pending() <= budget_;
  if (!has_room || !has_budget) {
    sequence.blocks.clear();
    sequence.num_computed = sequence.num_scheduled = 0;
    return false;
  }
  // Room for everything known: a prompt that has started is not preempted for want of its own
  // blocks.
  DONAR_CHECK(sequence.blocks.reserve(pool_, sequence.num_tokens()));
  sequence.state = SequenceState::kRunning;
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  if (reads_cache && config_.prefix_caching &&
      sequence.num_output() == 0) {  // not one that comes back
    plan_->stats.prefix_queries += sequence.num_tokens();
    plan_->stats.prefix_hits += sequence.num_computed;
  }
  if (request.timing.scheduled == TimePoint{}) {
    request.timing.scheduled = Clock::now();
    request.timing.cached_tokens = sequence.num_computed;
    request.queue_slot.reset();
  }
  return true;
}

void Scheduler::add_line(Sequence& sequence, int num_tokens, bool starts) {
  PlanLine line;
  line.sequence = &sequence;
  line.begin = sequence.num_scheduled;
  line.num_tokens = num_tokens;
  line.samples = num_tokens == sequence.num_pending() && sequence.request.request.max_tokens > 0;
  line.from_last_step = line.begin >= sequence.num_tokens();
  line.starts = starts;
  const bool is_decode = num_tokens == 1 && line.samples && line.begin >= sequence.num_prompt();
  if (!is_decode) plan_->stats.prompt_tokens += num_tokens;
  plan_->lines.push_back(line);
  plan_->num_tokens += num_tokens;
  plan_->num_samples += line.samples;
  budget_ -= num_tokens;

  sequence.num_scheduled += num_tokens;
  sequence.num_drawing += line.samples;
  ++sequence.num_lines_in_flight;
}

bool Scheduler::make_room(Sequence& sequence, int num_tokens) {
  while (!sequence.blocks.reserve(pool_, sequence.num_scheduled + num_tokens)) {
    Sequence& newest = *running_.back();
    preempt(newest);
    if (&newest == &sequence) return false;
  }
  return true;
}

void Scheduler::preempt(Sequence& sequence) {
  // What is published stays findable, so coming back is cheap while nobody needs the blocks.
  for (PlanLine* line : lines_in_flight(sequence)) line->lost_blocks = true;
  leave(sequence);
  sequence.num_computed = sequence.num_scheduled = 0;
  sequence.state = SequenceState::kWaiting;
  waiting_.push_front(&sequence);
  ++sequence.request.timing.num_preemptions;
  ++plan_->stats.preemptions;
}

void Scheduler::leave(Sequence& sequence) {
  std::erase(running_, &sequence);
  sequence.blocks.clear();
  free_slots_.push_back(std::exchange(sequence.slot, -1));
}

std::vector<PlanLine*> Scheduler::lines_in_flight(const Sequence& sequence) {
  std::vector<PlanLine*> found;
  for (int i = 0; i < num_in_flight_ && sequence.num_lines_in_flight > 0; ++i) {
    for (PlanLine& line : plan_in_flight(i).lines)
      if (line.sequence == &sequence) found.push_back(&line);
  }
  return found;
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
  std::unordered_map<const Sequence*, InFlight> in_flight;
  for (int i = 0; i < num_in_flight_; ++i) {
    const StepPlan& plan = plans_[(first_plan_ + static_cast<size_t>(i)) % plans_.size()];
    for (const PlanLine& line : plan.lines) {
      InFlight& sum = in_flight[line.sequence];
      ++sum.num_lines;
      sum.num_drawing += line.samples;
      if (!line.lost_blocks) sum.num_tokens += line.num_tokens;
    }
  }
  const auto check_in_flight = [&](const Sequence& sequence) {
    const InFlight& sum = in_flight[&sequence];
    DONAR_CHECK(sum.num_lines == sequence.num_lines_in_flight &&
                    sum.num_drawing == sequence.num_drawing &&
                    sum.num_tokens == sequence.num_scheduled - sequence.num_computed,
                "{} lines in flight with {} tokens, {} known to the sequence", sum.num_lines,
                sum.num_tokens, sequence.num_lines_in_flight);
  };
  for (const Sequence* sequence : waiting_) {
    DONAR_CHECK(sequence->state == SequenceState::kWaiting && sequence->num_computed == 0 &&
                    sequence->blocks.num_blocks() == 0 && sequence->slot < 0,
                "a waiting sequence holds blocks");
    check_in_flight(*sequence);
  }
  std::unordered_set<int32_t> held;
  std::unordered_set<int> slots(free_slots_.begin(), free_slots_.end());
  for (const Sequence* sequence : running_) {
    DONAR_CHECK(sequence->state == SequenceState::kRunning);
    DONAR_CHECK(sequence->num_scheduled <= sequence->blocks.capacity_tokens() &&
                    sequence->num_pending() >= 0 &&
                    sequence->num_pending() + sequence->num_lines_in_flight > 0,
                "{} of {} tokens scheduled in {} blocks", sequence->num_scheduled,
                sequence->num_tokens(), sequence->blocks.num_blocks());
    check_in_flight(*sequence);
    held.insert(sequence->blocks.ids().begin(), sequence->blocks.ids().end());
    slots.insert(sequence->slot);
  }
  DONAR_CHECK(static_cast<int>(slots.size()) == config_.max_num_seqs && !slots.contains(-1) &&
                  free_slots_.size() + running_.size() == slots.size(),
              "{} slots are free, {} in use", free_slots_.size(), running_.size());
  DONAR_CHECK(static_cast<int64_t>(held.size()) == pool_.num_blocks() - pool_.num_free(),
              "{} blocks in tables, {} held", held.size(), pool_.num_blocks() - pool_.num_free());
}

}  // namespace donar::engine
