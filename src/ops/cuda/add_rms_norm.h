// The CUDA side of ops/add_rms_norm.h.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"
#include "tensor/dtype.h"

namespace donar::ops::cuda {

// The longest row: it stays in the registers of one block.
inline constexpr int64_t kAddRmsNormMaxDim = 16384;

struct AddRmsNormParams {
  float* x = nullptr;             // [num_rows, dim], rows x_stride apart
  const void* delta = nullptr;    // [parts, num_rows, dim] of delta_dtype, or null
  const float* weight = nullptr;  // [dim]
  void* y = nullptr;              // [ceil(dim / 64), count, 64] of y_dtype, k-tiled
  const int32_t* rows = nullptr;  // [count]: y[i] is of row rows[i] and x is not written; or null
  int64_t num_rows = 0;           // rows of x and delta
  int64_t count = 0;              // rows of y
  int64_t dim = 0;
  int64_t x_stride = 0;             // elements
  int64_t delta_stride = 0;         // elements from row to row
  int64_t part_stride = 0;          // elements from part to part
  int parts = 0;                    // 0: nothing to add; 16-bit deltas have one
  DType delta_dtype = DType::kF32;  // kF32 or y_dtype
  DType y_dtype = DType::kBF16;     // kBF16 or kF16
  float eps = 0;
  float inverse_dim = 0;           // 1 / dim
  bool one_block_per_row = false;  // no cluster, however few the rows: to compare
};

void add_rms_norm(const AddRmsNormParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
