// The second half of Scheduler: what follows from a step, from a cancelled reader and from the
// engine's end.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/scheduler.h"

namespace donar::engine {

std::vector<Update> Scheduler::commit(StepResult result, std::vector<Update> recycled) {
  DONAR_CHECK(num_in_flight_ > 0);
  StepPlan& plan = plan_in_flight(0);
  DONAR_CHECK(static_cast<int>(result.sampled.size()) == plan.num_samples,
              "{} tokens for {} sampling lines", result.sampled.size(), plan.num_samples);
  first_plan_ = (first_plan_ + 1) % plans_.size();
  --num_in_flight_;
  std::vector<Update> updates = std::move(recycled);
  updates.clear();
  updates.reserve(plan.lines.size());
  size_t next_sample = 0;
  for (size_t i = 0; i < plan.lines.size(); ++i) {
    const PlanLine& line = plan.lines[i];
    SampledToken* sampled = line.samples ? &result.sampled[next_sample++] : nullptr;
    if (!line.sequence) continue;  // ended while the step ran
    Sequence& sequence = *line.sequence;
    ActiveRequest& request = sequence.request;
    --sequence.num_lines_in_flight;
    sequence.num_drawing -= line.samples;
    if (i < result.prompt_logprobs.size())
      collect_prompt_logprobs(sequence, line.begin, std::move(result.prompt_logprobs[i]));
    if (!line.lost_blocks) {
      sequence.num_computed = line.end();
      if (publishes_blocks(request))
        sequence.blocks.publish(pool_, sequence.tokens, sequence.num_computed, request.cache_extra);
    }
    TokenEvent event;
    if (sampled) {
      sequence.tokens.push_back(sampled->token);
      event.tokens.push_back(sampled->token);
      if (sequence.sampling().num_logprobs >= 0)
        event.logprobs.push_back(std::move(sampled->logprobs));
      event.finish = finish_after_token(sequence, event);
      ++request.timing.generated_tokens;
      ++plan.stats.generated_tokens;
    } else if (request.request.max_tokens == 0 && line.end() == sequence.num_prompt()) {
      event.finish = FinishReason::kLength;  // only the prompt was wanted
    } else {
      continue;
    }
    updates.push_back(make_update(sequence, std::move(event)));
  }
  committed_ = plan.stats;
  return updates;
}

FinishReason Scheduler::finish_after_token(const Sequence& sequence, TokenEvent& event) const {
  const SamplingParams& sampling = sequence.sampling();
  const int32_t token = sequence.tokens.back();
  if (sequence.num_output() >= sampling.min_tokens) {
    const bool is_eos = std::ranges::count(config_.eos_tokens, token) > 0;
    const bool is_stop = std::ranges::count(sampling.stop_tokens, token) > 0;
    if ((is_eos && !sampling.ignore_eos) || is_stop) {
      event.ended_by_token = true;
      if (!is_eos || sampling.ignore_eos) event.stop_token = token;
      return FinishReason::kStop;
    }
  }
  return sequence.num_output() >= sequence.request.request.max_tokens ? FinishReason::kLength
                                                                      : FinishReason::kNone;
}

void Scheduler::collect_prompt_logprobs(Sequence& sequence, int begin,
                                        std::vector<PositionLogprobs> logprobs) {
  if (!sequence.wants_prompt_logprobs() || logprobs.empty()) return;
  std::vector<PositionLogprobs>& all = sequence.request.prompt_logprobs;
  all.resize(sequence.request.request.prompt.size());
  for (size_t i = 0; i < logprobs.size();
       ++i) {  // the row at position p tells about the token at p + 1
    all[static_cast<size_t>(begin) + i + 1] = std::move(logprobs[i]);
  }
}

Update Scheduler::make_update(Sequence& sequence, TokenEvent event) {
  ActiveRequest& request = sequence.request;
  Update update;
  update.request = &request;
  event.choice = sequence.choice;
  if (!event.tokens.empty()) {
    const TimePoint now = Clock::now();
    update.is_first_token = sequence.last_token == TimePoint{};
    update.token_seconds =
        seconds_between(update.is_first_token ? request.timing.arrived : sequence.last_token, now);
    sequence.last_token = request.timing.last_token = now;
    if (request.timing.first_token == TimePoint{}) request.timing.first_token = now;
  }
  if (!request.first_event_sent) {
    event.cached_tokens = request.timing.cached_tokens;
    if (sequence.sampling().num_prompt_logprobs >= 0) {
      request.prompt_logprobs.resize(
          request.request.prompt.size());  // a prompt of one token has none
      event.prompt_logprobs = std::move(request.prompt_logprobs);
    }
    request.first_event_sent = true;
  }
  const FinishReason finish = event.finish;
  update.event = std::move(event);
  if (finish != FinishReason::kNone) {
    end(sequence);
    if (request.num_open == 0) update.finished = remove(request);
  }
  return update;
}

void Scheduler::end(Sequence& sequence) {
  for (PlanLine* line : lines_in_flight(sequence)) line->sequence = nullptr;
  if (sequence.state == SequenceState::kRunning) leave(sequence);
  if (sequence.state == SequenceState::kWaiting) std::erase(waiting_, &sequence);
  sequence.state = SequenceState::kFinished;
  --sequence.request.num_open;
}

std::unique_ptr<ActiveRequest> Scheduler::remove(ActiveRequest& request) {
  const auto found = std::ranges::find(requests_, &request, &std::unique_ptr<ActiveRequest>::get);
  DONAR_CHECK(found != requests_.end());
  std::unique_ptr<ActiveRequest> removed = std::move(*found);
  requests_.erase(found);
  return removed;
}

std::vector<Update> Scheduler::take_cancelled() {
  std::vector<Update> updates;
  for (size_t i = 0; i < requests_.size();) {
    ActiveRequest& request = *requests_[i];
    if (const FinishReason reason = request.stream->cancelled(); reason != FinishReason::kNone) {
      std::ranges::move(abort(request, reason), std::back_inserter(updates));
      continue;  // the next request is at i now
    }
    bool is_finished = false;
    for (int choice : request.stream->take_cancelled_choices()) {
      if (is_finished || choice < 0 || choice >= request.request.num_choices) continue;
      Sequence& sequence = *request.sequences[static_cast<size_t>(choice)];
      if (sequence.state == SequenceState::kFinished) continue;
      TokenEvent event;
      event.finish = FinishReason::kStop;
      updates.push_back(make_update(sequence, std::move(event)));
      is_finished = updates.back().finished != nullptr;
    }
    if (!is_finished) ++i;
  }
  return updates;
}

std::vector<Update> Scheduler::abort(ActiveRequest& request, FinishReason reason) {
  return end_all(request, reason, std::nullopt);
}

std::vector<Update> Scheduler::end_all(ActiveRequest& request, FinishReason reason,
                                       const std::optional<Error>& error) {
  std::vector<Update> updates;
  int num_open = request.num_open;
  for (size_t i = 0; num_open > 0; ++i) {  // the last one takes the request with it
    Sequence& sequence = *request.sequences[i];
    if (sequence.state == SequenceState::kFinished) continue;
    --num_open;
    TokenEvent event;
    event.finish = reason;
    event.error = error;
    updates.push_back(make_update(sequence, std::move(event)));
  }
  return updates;
}

std::vector<Update> Scheduler::abort_all(FinishReason reason, const Error& error) {
  std::vector<Update> updates;
  while (!requests_.empty())
    std::ranges::move(end_all(*requests_.back(), reason, error), std::back_inserter(updates));
  return updates;
}

}  // namespace donar::engine
