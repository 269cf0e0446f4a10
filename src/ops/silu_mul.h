// The gated activation of Llama-like feed-forward blocks.
#pragma once

#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y = silu(gate) * up, silu(z) = z / (1 + exp(-z)).
void silu_mul(Exec& ex,
              TensorView gate_up,  // [rows, 2 * dim] f32: gate, then up
              TensorView y);       // [rows, dim] f32, out; may be the first half of gate_up

}  // namespace donar::ops
