// Rows of the embedding table, unpacked from any weight format and layout (a tied head is one
// copy).
#pragma once

#include "quant/linear_weight.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y[i] = float(table[ids[i]]).
void embedding(Exec& ex,
               TensorView ids,                    // [rows] i32, each in [0, table.n)
               const quant::LinearWeight& table,  // [vocab, dim]
               TensorView y);                     // [rows, dim] f32, out

}  // namespace donar::ops
