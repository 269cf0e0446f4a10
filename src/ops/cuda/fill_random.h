// Made-up weights written straight into their packed form: what `--load-format dummy` runs.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

// Row r of the source becomes packed row first_row + r, or interleaved_row(r, gate_or_up) where
// gate_or_up is not below 0. Its columns from k to the next multiple of 64 are set to zero.
struct FillRandomParams {
  void* packed = nullptr;  // kTiled, 16-bit; 16-byte aligned
  bool bf16 = true;        // else f16
  int64_t n = 0;           // rows of the source
  int64_t k = 0;
  int tile_rows = 0;
  int64_t first_row = 0;
  int gate_or_up = -1;
  uint64_t seed = 0;
  float scale = 0.0f;  // values are ops::random_value(seed, row, column, scale), rounded once
};

void fill_random(const FillRandomParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
