// Rows of the embedding table, unpacked from any weight format and layout (a tied head is one
// copy).
#pragma once

#include "quant/linear_weight.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y[i] = float(table[id]), id = ids[i], or previous[-1 - ids[i]] where ids[i] < 0: a token that was
// sampled in the step before and that the host has not seen yet.
void embedding(Exec& ex,
               TensorView ids,                    // [rows] i32, below table.n
               const quant::LinearWeight& table,  // [vocab, dim]
               TensorView y,                      // [rows, dim] f32, out
               TensorView previous = {});         // [slots] i32; none: all ids are known

}  // namespace donar::ops
