// The launcher behind ops/scatter_ints.h.
#pragma once

#include "ops/scatter_ints.h"
#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

struct ScatterIntsParams {
  int32_t* table;
  const ScatteredInt* entries;  // [count]
  int64_t count;
};
void scatter_ints(const ScatterIntsParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
