#include "ops/add_rms_norm.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void add_rms_norm(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                  TensorView y, TensorView rows) {
  DONAR_CHECK(x.rank == 2 && x.dtype == DType::kF32 && weight.rank == 1);
  const int64_t num_rows = x.dim(0), dim = x.dim(1);
  const int64_t num_picked = rows.data == nullptr ? num_rows : rows.dim(0);
  DONAR_CHECK(is_activation(ex, y, num_picked, dim), "x [{}, {}], y of {} rows", num_rows, dim,
              num_picked);
  DONAR_CHECK(weight.dim(0) == dim, "weight [{}] for dim {}", weight.dim(0), dim);
  if (delta.data != nullptr) {
    delta = delta.as_parts();
    DONAR_CHECK(delta.dim(1) == num_rows && delta.dim(2) == dim);
  }
  DONAR_CHECK(x.data != y.data, "y aliases x");
  if (rows.data == nullptr) {
    cpu::add_rms_norm(ex, x, delta.data == nullptr ? delta : delta.part(0), weight, eps, y);
    return;
  }
  cpu::add_rms_norm_rows(ex, x, delta.data == nullptr ? delta : delta.part(0), weight, eps, y,
                         rows);
}

}  // namespace donar::ops
