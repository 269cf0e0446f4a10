#include "ops/add_rms_norm.h"

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"

namespace donar::ops::cpu {

void add_rms_norm(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                  TensorView y) {
  const Kernels& table = kernels(ex);
  const int64_t dim = x.dim(1);
  ex.pool->parallel_for(
      x.dim(0), rows_per_piece(ex, x.dim(0), dim), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          table.add_rms_norm(x.row<float>(row),
                             delta.data != nullptr ? delta.row<float>(row) : nullptr,
                             weight.as<float>(), eps, dim, y.row<float>(row));
        }
      });
}

}  // namespace donar::ops::cpu
