#include "ops/silu_mul.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void silu_mul(Exec& ex, TensorView gate_up, TensorView y) {
  DONAR_CHECK(gate_up.rank == 2 && y.rank == 2 && gate_up.dim(0) == y.dim(0) &&
                  gate_up.dim(1) == 2 * y.dim(1),
              "gate_up [{}, {}], y [{}, {}]", gate_up.dim(0), gate_up.dim(1), y.dim(0), y.dim(1));
  DONAR_CHECK(y.data != gate_up.data || y.stride[0] == gate_up.stride[0],
              "y in gate_up keeps its row stride");
  cpu::silu_mul(ex, gate_up, y);
}

}  // namespace donar::ops
