// The CUDA side of ops/embedding.h.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"
#include "tensor/dtype.h"

namespace donar::ops::cuda {

struct EmbeddingParams {
  const int32_t* ids = nullptr;       // [rows]; below 0: previous[-1 - id]
  const int32_t* previous = nullptr;  // or null: all ids are known
  const void* table = nullptr;        // [vocab, dim] of table_dtype
  float* y = nullptr;                 // [rows, dim], rows y_stride apart
  int64_t rows = 0;
  int64_t vocab = 0;
  int64_t dim = 0;
  int64_t y_stride = 0;  // elements
  int num_previous = 0;
  int tile_rows = 0;                 // of a k-tiled table; 0: rows one after the other
  DType table_dtype = DType::kBF16;  // kBF16, kF16, or kF32 (rows one after the other only)
};

void embedding(const EmbeddingParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
