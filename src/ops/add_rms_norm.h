// Residual add and RMSNorm in one pass.
#pragma once

#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// x += delta;  y = x * rsqrt(mean(x^2) + eps) * weight, row by row. Accumulates in float, in one
// order for every row count.
void add_rms_norm(Exec& ex,
                  TensorView x,       // [rows, dim] f32, in and out: the residual stream
                  TensorView delta,   // [rows, dim] f32; data == nullptr: nothing to add
                  TensorView weight,  // [dim] f32
                  float eps,
                  TensorView y);  // [rows, dim] f32, out; may not alias x

}  // namespace donar::ops
