// The CUDA side of ops/silu_mul.h.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"
#include "tensor/dtype.h"

namespace donar::ops::cuda {

struct SiluMulParams {
  const void* gate_up = nullptr;  // [rows, 2 * dim] of gate_up_dtype, rows stride apart
  void* y = nullptr;              // [ceil(dim / 64), rows, 64] of y_dtype, k-tiled
  int64_t rows = 0;
  int64_t dim = 0;
  int64_t stride = 0;                 // elements
  DType gate_up_dtype = DType::kF32;  // kF32 or y_dtype
  DType y_dtype = DType::kBF16;       // kBF16 or kF16
};

void silu_mul(const SiluMulParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
