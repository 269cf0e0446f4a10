// A plan as the arrays that the model reads: allocated once, filled every step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"
#include "engine/step_plan.h"
#include "model/forward_batch.h"
#include "tensor/buffer.h"

namespace donar::engine {

struct BatchLimits {
  int64_t max_rows = 0;       // tokens of one step
  int64_t max_sequences = 0;  // lines of one step
  int64_t max_blocks = 0;     // of one sequence
};

// Engine thread only.
class BatchBuilder {
 public:
  static Result<BatchBuilder> create(MemoryLedger& ledger, const BatchLimits& limits);

  // Valid until the next call.
  const model::ForwardBatch& build(const StepPlan& plan);
  // What the sample rows of the batch are wanted for, in their order.
  std::span<const HeadRow> head_rows() const { return head_rows_; }

 private:
  BatchBuilder() = default;
  void add_line(const PlanLine& line, int64_t index, int64_t first_row);

  BatchLimits limits_;
  Buffer buffer_;  // all arrays below, one after the other, so that a device needs one copy
  int32_t* tokens_ = nullptr;        // [max_rows]
  int32_t* positions_ = nullptr;     // [max_rows]
  int32_t* slots_ = nullptr;         // [max_rows]
  int32_t* sample_rows_ = nullptr;   // [max_rows]
  int32_t* query_start_ = nullptr;   // [max_sequences + 1]
  int32_t* block_tables_ = nullptr;  // [max_sequences, max_blocks]
  std::vector<HeadRow> head_rows_;
  model::ForwardBatch batch_;
};

}  // namespace donar::engine
