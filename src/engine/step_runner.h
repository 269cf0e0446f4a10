// What the engine needs of a device: run plans one after the other, give one token per sampling
// line. Worker and CudaWorker implement it; tests use a fake model.
#pragma once

#include <span>
#include <vector>

#include "base/error.h"
#include "engine/request.h"
#include "engine/step_plan.h"

namespace donar::engine {

// What one sampling line of the plan drew.
struct SampledToken {
  int32_t token = 0;
  PositionLogprobs logprobs;  // empty unless asked for
};

struct StepResult {
  std::vector<SampledToken> sampled;  // one per sampling line, in plan order
  // For lines that ran prompt tokens of a request with num_prompt_logprobs >= 0: per line, the
  // logprobs of the tokens that follow the rows of this line, as far as the prompt knows them.
  // Empty for all other lines.
  std::vector<std::vector<PositionLogprobs>>
      prompt_logprobs;    // one entry per plan line, or empty altogether
  bool is_graph = false;  // the step replayed a captured graph
};

// Engine thread only. An error or an exception is fatal to the engine.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // The first call, from the thread of all others.
  virtual void start_thread() {}
  // Steps that may still run while the next one is scheduled. 0: launch computes in place. 1: the
  // host prepares a step and publishes another while the device works on the one between. At most
  // kMaxDepth.
  virtual int depth() const = 0;
  // Begins a step. Steps run in the order of their launch, each after the one before has ended: a
  // block or a slot that is given back while a step still writes to it may go to the next one.
  // Nothing of the plan or its sequences is read after launch has returned.
  virtual Result<void> launch(const StepPlan& plan) = 0;
  // Waits for the oldest step that was launched and not collected.
  virtual Result<StepResult> collect() = 0;
  // Called while there is nothing to run: prepares one thing that later steps would have to stop
  // for. False when nothing is left to prepare.
  virtual bool use_idle_moment() { return false; }
};

inline constexpr int kMaxDepth = 1;

}  // namespace donar::engine
