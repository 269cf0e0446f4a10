#include "ops/gather_rows.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/gather_rows.h"
#include "tensor/cuda.h"

namespace donar::ops {

void gather_rows(Exec& ex, TensorView x, TensorView index, TensorView y) {
  DONAR_CHECK(x.rank == 2 && index.rank == 1 && y.rank == 2 && y.dim(0) == index.dim(0) &&
                  y.dim(1) == x.dim(1),
              "x [{}, {}], index [{}], y [{}, {}]", x.dim(0), x.dim(1), index.dim(0), y.dim(0),
              y.dim(1));
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      cuda::GatherRowsParams params;
      params.x = x.as<float>();
      params.index = index.as<int32_t>();
      params.y = y.as<float>();
      params.rows = x.dim(0);
      params.picked = index.dim(0);
      params.dim = x.dim(1);
      params.x_stride = x.stride[0];
      params.y_stride = y.stride[0];
      cuda::gather_rows(params, *ex.cuda);
      return;
    }
  }
  for (int64_t i = 0; i < index.dim(0); ++i) {
    const int32_t row = index.as<int32_t>()[i];
    DONAR_CHECK(row >= 0 && row < x.dim(0), "row {} of {}", row, x.dim(0));
  }
  cpu::gather_rows(ex, x, index, y);
}

}  // namespace donar::ops
