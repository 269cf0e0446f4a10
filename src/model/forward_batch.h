// One step as the device sees it: rows of any mix of sequences. Built by engine/batch_builder from
// a StepPlan.
#pragma once

#include "tensor/tensor_view.h"

namespace donar::model {

struct ForwardBatch {
  TensorView tokens;        // [rows] i32
  TensorView positions;     // [rows] i32
  TensorView slots;         // [rows] i32: where k and v of the row go, block * 16 + offset
  TensorView query_start;   // [sequences + 1] i32
  TensorView block_tables;  // [sequences, max_blocks] i32
  TensorView sample_rows;   // [samples] i32: rows whose hidden state is wanted
};

}  // namespace donar::model
