// The gated activation of Llama-like feed-forward blocks, where it is not the last part of the
// product that gives gate and up (ops/linear.h, linear_silu_mul).
#pragma once

#include "ops/activation.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y = silu(gate) * up, silu(z) = z / (1 + exp(-z)).
void silu_mul(Exec& ex,
              TensorView gate_up,  // [rows, 2 * dim] f32 (CUDA: or ex.activation): gate, then up
              TensorView y);       // activation of [rows, dim], out; on the CPU it may be the first
                                   // half of gate_up

}  // namespace donar::ops
