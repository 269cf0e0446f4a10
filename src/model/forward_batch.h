// One step as the device sees it: rows of any mix of sequences. Built by engine/batch_builder from
// a StepPlan.
#pragma once

#include "ops/attention_plan.h"
#include "tensor/tensor_view.h"

namespace donar::model {

struct ForwardBatch {
  TensorView tokens;        // [rows] i32; below 0: previous[-1 - token]
  TensorView previous;      // [slots] i32: sampled in the last step, still unknown to the host;
                            // data == nullptr: all tokens are known
  TensorView positions;     // [rows] i32
  TensorView slots;         // [rows] i32: where k and v of the row go, block * 16 + offset
  TensorView query_start;   // [sequences + 1] i32
  TensorView block_tables;  // [sequences, max_blocks] i32
  TensorView sample_rows;   // [samples] i32: rows whose hidden state is wanted
  ops::AttentionPlan attention;  // CUDA: work items of the step
};

}  // namespace donar::model
