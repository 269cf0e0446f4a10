// The plan of one step: plain data between the scheduler and the worker. Everything left of it is
// tested without a model.
#pragma once

#include <cstdint>
#include <vector>

namespace donar::engine {

class Sequence;

// One line: run num_tokens tokens of a sequence, starting at the first one that is not computed.
struct PlanLine {
  Sequence* sequence = nullptr;
  int num_tokens = 0;
  bool samples = false;  // the line reaches the end of what is known, so a new token is drawn
};

struct StepPlan {
  std::vector<PlanLine> lines;
  int num_tokens = 0;   // sum over the lines
  int num_samples = 0;  // lines that sample
  bool empty() const { return lines.empty(); }
};

}  // namespace donar::engine
