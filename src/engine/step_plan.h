// The plan of one step: plain data between the scheduler and the runner. Everything left of it is
// tested without a model.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/stats.h"

namespace donar::engine {

class Sequence;

// One line: run num_tokens tokens of a sequence, starting at the first one that no step before has
// taken.
struct PlanLine {
  Sequence* sequence = nullptr;  // null at commit: it ended while the step was in flight
  int begin = 0;                 // position of the first token
  int num_tokens = 0;
  bool samples = false;  // the line reaches the end of what is known, so a new token is drawn
  bool from_last_step = false;  // its one token is drawn by the step in flight: only the device
                                // knows it
  bool starts = false;          // the first line since the sequence got its slot
  bool lost_blocks = false;  // preempted while in flight: what was computed is gone, what was drawn
                             // counts

  int end() const { return begin + num_tokens; }
};

struct StepPlan {
  std::vector<PlanLine> lines;
  int num_tokens = 0;   // sum over the lines
  int num_samples = 0;  // lines that sample
  StepStats stats;      // what scheduling, and later the commit, have to report
  bool empty() const { return lines.empty(); }
};

}  // namespace donar::engine
