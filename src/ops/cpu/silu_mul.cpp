#include "ops/silu_mul.h"

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"

namespace donar::ops::cpu {

void silu_mul(Exec& ex, TensorView gate_up, TensorView y) {
  const Kernels& table = kernels(ex);
  const int64_t dim = y.dim(1);
  ex.pool->parallel_for(y.dim(0), rows_per_piece(ex, y.dim(0), dim * 2),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t row = begin; row < end; ++row) {
                            const float* gate = gate_up.row<float>(row);
                            table.silu_mul(gate, gate + dim, dim, y.row<float>(row));
                          }
                        });
}

}  // namespace donar::ops::cpu
