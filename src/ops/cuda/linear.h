// The CUDA half of ops/linear.h: which kernel multiplies how many rows.
#pragma once

#include "ops/linear.h"

namespace donar::ops::cuda {

// Arguments as in ops/linear.h, with the one matrix that the loader made of a group.
LinearOutput linear_output(const Exec& ex, const quant::LinearWeight& weight, int64_t rows);
void linear(Exec& ex, TensorView x, const quant::LinearWeight& weight, TensorView y);
void linear_silu_mul(Exec& ex, TensorView x, const quant::LinearWeight& gate_up, TensorView y);

}  // namespace donar::ops::cuda
