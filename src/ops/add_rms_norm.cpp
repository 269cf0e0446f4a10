#include "ops/add_rms_norm.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/add_rms_norm.h"
#include "ops/cuda_limits.h"
#include "tensor/cuda.h"

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
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      DONAR_CHECK(dim <= kCudaMaxDim, "rows of {} values, at most {}", dim, kCudaMaxDim);
      DONAR_CHECK(delta.data == nullptr || delta.dtype == DType::kF32 ||
                      (delta.dtype == ex.activation && delta.dim(0) == 1),
                  "delta of {} in {} parts", dtype_name(delta.dtype), delta.dim(0));
      cuda::AddRmsNormParams params;
      params.x = x.as<float>();
      params.x_stride = x.stride[0];
      if (delta.data != nullptr) {
        params.delta = delta.data;
        params.delta_dtype = delta.dtype;
        params.parts = static_cast<int>(delta.dim(0));
        params.part_stride = delta.stride[0];
        params.delta_stride = delta.stride[1];
      }
      params.weight = weight.as<float>();
      params.y = y.data;
      params.y_dtype = y.dtype;
      params.rows = rows.data == nullptr ? nullptr : rows.as<int32_t>();
      params.num_rows = num_rows;
      params.count = num_picked;
      params.dim = dim;
      params.eps = eps;
      params.inverse_dim = 1.0f / static_cast<float>(dim);
      cuda::add_rms_norm(params, *ex.cuda);
      return;
    }
  }
  if (rows.data == nullptr) {
    cpu::add_rms_norm(ex, x, delta.data == nullptr ? delta : delta.part(0), weight, eps, y);
    return;
  }
  cpu::add_rms_norm_rows(ex, x, delta.data == nullptr ? delta : delta.part(0), weight, eps, y,
                         rows);
}

}  // namespace donar::ops
