// What the engine needs of a device: run one plan, give one token per sampling line. Worker
// implements it; tests use a fake model.
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
      prompt_logprobs;  // one entry per plan line, or empty altogether
};

class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Runs the plan to its end (pipeline depth 0). An error is fatal to the engine.
  virtual Result<StepResult> run(const StepPlan& plan) = 0;
};

}  // namespace donar::engine
