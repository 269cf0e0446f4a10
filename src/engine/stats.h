// What the engine reports: gauges that anyone may read, and a listener that turns steps and
// requests into metrics.
#pragma once

#include <cstdint>

#include "engine/request.h"

namespace donar::engine {

struct EngineGauges {
  int running = 0;  // sequences with tokens in the current step or waiting for their next
  int waiting = 0;  // not started or preempted, the inbox included
  double kv_usage =
      0.0;  // used blocks / all blocks, 0..1; cached blocks that nobody holds count as free
  int64_t num_blocks = 0;
  int64_t free_blocks = 0;
};

struct StepStats {
  EngineGauges gauges;
  int prompt_tokens = 0;  // computed in this step, recomputation included
  int generated_tokens = 0;
  int preemptions = 0;
  int64_t prefix_queries = 0;  // prompt tokens looked up in the prefix cache in this step
  int64_t prefix_hits = 0;     // of them found
  double seconds = 0.0;  // that the step took: since it was scheduled, or since the step before
                         // it ended if that was later
  double host_seconds =
      0.0;                // of the host between two steps: since the last step was collected (or
                          // launched, or a request woke the engine) until this one was launched
  bool is_graph = false;  // it replayed a captured graph
};

// Called on the engine thread; implementations must be quick and must not call the engine.
class StatsListener {
 public:
  virtual ~StatsListener() = default;
  // Also without tokens, when cancels left nothing to run.
  virtual void on_step(const StepStats& step) = 0;
  virtual void on_first_token(double seconds) = 0;  // since arrival
  virtual void on_inter_token(double seconds) = 0;  // per token after the first
  virtual void on_finish(const RequestTiming& timing, FinishReason reason,
                         const Request& request) = 0;
};

}  // namespace donar::engine
