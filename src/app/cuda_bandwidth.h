// The kernel behind measure_cuda_read_bandwidth.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::app::cuda {

// Reads `bytes` (a multiple of 16) once, in 16-byte loads. What depends on every byte goes to
// `sink`, which nobody reads.
void read_once(const void* data, uint64_t bytes, uint32_t* sink, const CudaExec& exec);

}  // namespace donar::app::cuda
