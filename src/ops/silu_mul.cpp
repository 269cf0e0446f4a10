#include "ops/silu_mul.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/silu_mul.h"
#include "tensor/cuda.h"

namespace donar::ops {

void silu_mul(Exec& ex, TensorView gate_up, TensorView y) {
  DONAR_CHECK(gate_up.rank == 2 && gate_up.dim(1) % 2 == 0);
  const int64_t rows = gate_up.dim(0), dim = gate_up.dim(1) / 2;
  DONAR_CHECK(is_activation(ex, y, rows, dim), "gate_up [{}, {}], y [{}, {}]", rows, 2 * dim,
              y.dim(0), y.dim(1));
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      DONAR_CHECK(gate_up.dtype == DType::kF32 || gate_up.dtype == ex.activation, "gate_up of {}",
                  dtype_name(gate_up.dtype));
      cuda::SiluMulParams params;
      params.gate_up = gate_up.data;
      params.gate_up_dtype = gate_up.dtype;
      params.y = y.data;
      params.y_dtype = y.dtype;
      params.rows = rows;
      params.dim = dim;
      params.stride = gate_up.stride[0];
      cuda::silu_mul(params, *ex.cuda);
      return;
    }
  }
  DONAR_CHECK(y.data != gate_up.data || y.stride[0] == gate_up.stride[0],
              "y in gate_up keeps its row stride");
  cpu::silu_mul(ex, gate_up, y);
}

}  // namespace donar::ops
