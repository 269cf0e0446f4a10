// The largest sizes that the CUDA kernels take: ops check them, and the engine refuses a model or a
// step beyond them before any weight is read.
#pragma once

#include <cstdint>

#include "ops/cuda/add_rms_norm.h"

namespace donar::ops {

inline constexpr int64_t kCudaMaxDim = cuda::kAddRmsNormMaxDim;  // of the residual stream
inline constexpr int64_t kCudaMaxHeadDim = 256;  // attention keeps a head's values in registers
inline constexpr int64_t kCudaMaxVocab =
    (int64_t{1} << 19) - 1;  // the sampler adds up weights of 2^45 in 64 bits
inline constexpr int64_t kCudaMaxRowHeads =
    (int64_t{1} << 24) - 1;  // rows of a step x heads of q, k and v: 32 threads each rotate them

}  // namespace donar::ops
