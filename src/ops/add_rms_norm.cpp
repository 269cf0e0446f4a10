#include "ops/add_rms_norm.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void add_rms_norm(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                  TensorView y) {
  DONAR_CHECK(x.rank == 2 && y.rank == 2 && x.dim(0) == y.dim(0) && x.dim(1) == y.dim(1),
              "x [{}, {}], y [{}, {}]", x.dim(0), x.dim(1), y.dim(0), y.dim(1));
  DONAR_CHECK(weight.rank == 1 && weight.dim(0) == x.dim(1), "weight [{}] for dim {}",
              weight.dim(0), x.dim(1));
  DONAR_CHECK(delta.data == nullptr || (delta.dim(0) == x.dim(0) && delta.dim(1) == x.dim(1)));
  DONAR_CHECK(x.data != y.data, "y aliases x");
  cpu::add_rms_norm(ex, x, delta, weight, eps, y);
}

}  // namespace donar::ops
