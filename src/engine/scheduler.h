// Decides what every step computes and what follows from it. Host data only: no weights, no device,
// no clock but for timings.
//
//   add -> waiting -> schedule(): running first, then waiting, under the token budget -> StepPlan
//   -> (runner) -> commit()
//
// A plan may be scheduled while the one before it is in flight: tokens being computed or drawn are
// counted, and a sequence that turns out to have ended is dropped from what is in flight. Its
// blocks and its slot are free at once, since steps run one after the other.
//
// Out of blocks, the newest running sequence gives its blocks back and goes to the front of the
// queue. The choices of one request wait until the first one has computed the prompt, and then
// share its blocks through the prefix cache.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "engine/sequence.h"
#include "engine/stats.h"
#include "engine/step_plan.h"
#include "engine/step_runner.h"
#include "kv/block_pool.h"

namespace donar::engine {

struct SchedulerConfig {
  int64_t max_model_len = 0;  // tokens of prompt and output together
  int max_num_seqs = 0;       // sequences in one step
  int max_num_batched_tokens =
      0;  // token budget of one step; >= max_model_len without chunked prefill
  bool chunked_prefill = true;
  bool prefix_caching = true;
  std::vector<int32_t> eos_tokens;
};

// What one choice's reader is to be told.
struct Update {
  ActiveRequest* request = nullptr;
  TokenEvent event;
  double token_seconds =
      0.0;  // with a token: since arrival for a choice's first, else since the one before
  bool is_first_token = false;  // of its choice
  std::unique_ptr<ActiveRequest>
      finished;  // with a request's last update: the request itself, which has left the scheduler
};

// Engine thread only.
class Scheduler {
 public:
  Scheduler(SchedulerConfig config, int64_t num_blocks);

  // Queues all choices. kInvalidArgument for what can never fit; the request then stays with the
  // caller.
  Result<void> add(std::unique_ptr<ActiveRequest>& request);

  // The next step, in flight from now on unless it is empty. Empty only if idle, or if everything
  // waits for a step in flight. Valid until its commit; at most kMaxDepth may be in flight before.
  const StepPlan& schedule();
  int num_in_flight() const { return num_in_flight_; }

  // Appends what the oldest step in flight drew, and ends, frees and publishes what follows from
  // it.
  // `recycled`: an old list, for its memory.
  std::vector<Update> commit(StepResult result, std::vector<Update> recycled = {});

  // Ends what readers have cancelled since the last call.
  std::vector<Update> take_cancelled();
  std::vector<Update> abort(ActiveRequest& request, FinishReason reason);
  std::vector<Update> abort_all(FinishReason reason, const Error& error);

  void forget_cached() { pool_.forget_cached(); }

  bool idle() const { return requests_.empty(); }
  EngineGauges gauges() const;
  // Of the last committed step, without gauges and times.
  const StepStats& step_stats() const { return committed_; }
  void check_integrity() const;

 private:
  void plan_running();
  void plan_waiting();
  void add_line(Sequence& sequence, int num_tokens, bool starts);
  bool start(Sequence& sequence);  // false: no room now
  bool make_room(Sequence& sequence, int num_tokens);
  void preempt(Sequence& sequence);
  void leave(Sequence& sequence);  // blocks and slot, no longer running
  StepPlan& plan_in_flight(int i) {
    return plans_[(first_plan_ + static_cast<size_t>(i)) % plans_.size()];
  }
  std::vector<PlanLine*> lines_in_flight(const Sequence& sequence);
  bool waits_for_first_choice(const Sequence& sequence) const;
  bool publishes_blocks(const ActiveRequest& request) const;
  FinishReason finish_after_token(const Sequence& sequence, TokenEvent& event) const;
  void collect_prompt_logprobs(Sequence& sequence, int begin,
                               std::vector<PositionLogprobs> logprobs);
  Update make_update(Sequence& sequence, TokenEvent event);
  std::vector<Update> end_all(ActiveRequest& request, FinishReason reason,
                              const std::optional<Error>& error);
  void end(Sequence& sequence);
  std::unique_ptr<ActiveRequest> remove(ActiveRequest& request);

  const SchedulerConfig config_;
  kv::BlockPool pool_;                                    // outlives the sequences below
  std::vector<std::unique_ptr<ActiveRequest>> requests_;  // owns all that is not finished
  std::deque<Sequence*> waiting_;                         // next first
  std::vector<Sequence*> running_;                        // in the order they started
  std::vector<int> free_slots_;                           // the next one last
  std::array<StepPlan, kMaxDepth + 1> plans_;             // a ring: those in flight, oldest first
  size_t first_plan_ = 0;
  int num_in_flight_ = 0;
  StepPlan* plan_ = nullptr;  // being planned
  int budget_ = 0;            // tokens left in it
  StepStats committed_;
  uint64_t num_added_ = 0;
};

}  // namespace donar::engine
