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

void add_rms_norm_rows(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                       TensorView y, TensorView rows) {
  const int64_t count = rows.dim(0), dim = x.dim(1);
  Arena::Scope scope(*ex.arena);
  const auto copy = [&](TensorView source) {
    const TensorView picked(ex.arena->take<float>(count * dim), DType::kF32, {count, dim});
    gather_rows(ex, source, rows, picked);
    return picked;
  };
  const TensorView picked_x = copy(x);
  const TensorView picked_delta = delta.data != nullptr ? copy(delta) : delta;
  add_rms_norm(ex, picked_x, picked_delta, weight, eps, y);
}

}  // namespace donar::ops::cpu
