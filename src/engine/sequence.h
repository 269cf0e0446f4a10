// A request in the engine and its sequences, one per choice. A sequence has tokens known and tokens
// computed; every step lets it catch up. There is no prefill and no decode phase. While a step is
// in flight, what it computes and draws is counted, so that the next one can be scheduled behind
// it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "engine/stream.h"
#include "engine/token_counts.h"
#include "kv/block_table.h"

namespace donar::engine {

class Sequence;

// A place in the bounded queue of requests that have not started; given back when the request
// starts or dies.
struct LeaveQueue {
  void operator()(std::atomic<int>* queued) const {
    queued->fetch_sub(1, std::memory_order_relaxed);
  }
};
using QueueSlot = std::unique_ptr<std::atomic<int>, LeaveQueue>;

// Engine thread only, once it has left the inbox.
struct ActiveRequest {
  Request request;                      // sampling.seed is always set
  std::shared_ptr<StreamState> stream;  // shared with the reader, who may go first
  QueueSlot queue_slot;
  RequestTiming timing;

  // The scheduler's:
  std::vector<std::unique_ptr<Sequence>> sequences;  // [num_choices]
  int num_open = 0;                                  // sequences that are not finished
  uint64_t cache_extra = 0;                          // goes into the key of the first block
  bool first_event_sent = false;
  std::vector<PositionLogprobs> prompt_logprobs;  // [prompt] collected until the first event
};

enum class SequenceState : uint8_t {
  kWaiting,  // holds no blocks: not started, or preempted
  kRunning,  // holds the blocks of everything computed
  kFinished,
};

class Sequence {
 public:
  Sequence(ActiveRequest& owner, int choice_index)
      : request(owner), choice(choice_index), tokens(owner.request.prompt) {
    tokens.reserve(owner.request.prompt.size() + static_cast<size_t>(owner.request.max_tokens));
  }

  ActiveRequest& request;
  const int choice;
  SequenceState state = SequenceState::kWaiting;
  std::vector<int32_t> tokens;  // prompt, then output
  int num_computed = 0;         // tokens whose keys and values are in `blocks`
  int num_scheduled = 0;        // and of those that the steps in flight compute; >= num_computed
  int num_drawing = 0;          // tokens that the steps in flight draw: they follow `tokens`
  int num_lines_in_flight = 0;  // of plans
  int slot = -1;  // 0..max_num_seqs - 1 while running: its place in what the device keeps
  kv::BlockTable blocks;
  TokenCounts counts;      // the sampler's; filled only when a penalty is on
  TimePoint last_token{};  // of this choice

  const SamplingParams& sampling() const { return request.request.sampling; }
  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_prompt() const { return static_cast<int>(request.request.prompt.size()); }
  int num_output() const { return num_tokens() - num_prompt(); }
  // Tokens that can be scheduled now: known or drawn by a step in flight, but not the last one that
  // the request may have, which nothing follows.
  int num_pending() const {
    const int num_wanted = num_prompt() + std::max(request.request.max_tokens - 1, 0);
    return std::min(num_tokens() + num_drawing, num_wanted) - num_scheduled;
  }
  uint64_t seed() const { return *sampling().seed + static_cast<uint64_t>(choice); }

  // Once per request, by its first choice, whatever happens to it on the way.
  bool wants_prompt_logprobs() const {
    return sampling().num_prompt_logprobs >= 0 && choice == 0 && !request.first_event_sent;
  }
};

}  // namespace donar::engine
