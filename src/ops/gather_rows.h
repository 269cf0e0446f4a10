// Picks the rows that are sampled from.
#pragma once

#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y[i] = x[index[i]].
void gather_rows(Exec& ex,
                 TensorView x,      // [rows, dim] f32
                 TensorView index,  // [picked] i32
                 TensorView y);     // [picked, dim] f32, out

}  // namespace donar::ops
