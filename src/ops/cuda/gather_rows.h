// The CUDA side of ops/gather_rows.h.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

struct GatherRowsParams {
  const float* x = nullptr;        // [rows, dim], rows x_stride apart
  const int32_t* index = nullptr;  // [picked]
  float* y = nullptr;              // [picked, dim], rows y_stride apart
  int64_t rows = 0;
  int64_t picked = 0;
  int64_t dim = 0;
  int64_t x_stride = 0;  // elements
  int64_t y_stride = 0;
};

void gather_rows(const GatherRowsParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
