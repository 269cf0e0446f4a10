// Residual add and RMSNorm in one pass.
#pragma once

#include "ops/activation.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// x += sum of delta's parts, in order;  y = x * rsqrt(mean(x^2) + eps) * weight, row by row.
// Accumulates in float, in one order for every row count. With `rows`, y[i] is of row rows[i], and
// x stays as it is.
void add_rms_norm(Exec& ex,
                  TensorView x,       // [rows, dim] f32, in and out: the residual stream
                  TensorView delta,   // [parts, rows, dim] f32, or [1, rows, dim] in ex.activation;
                                      // data == nullptr: nothing to add
                  TensorView weight,  // [dim] f32
                  float eps,
                  TensorView y,           // activation of [rows or picked, dim], out
                  TensorView rows = {});  // [picked] i32

}  // namespace donar::ops
