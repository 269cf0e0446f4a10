// Kernels of cuda_bench: what the device can do at most, and random data.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::bench {

// Reads `bytes` (a multiple of 16) once, with 16-byte loads; a sum that cannot be left out goes to
// sink.
void cuda_read(const void* data, uint64_t bytes, uint32_t* sink, const CudaExec& exec);

// Dense bf16 products of random values, without device memory: wgmma from shared memory on Hopper,
// mma.sync from registers elsewhere. Returns the floating-point operations enqueued.
double cuda_bf16_products(int iterations, float* sink, const CudaExec& exec);

// Values of a bell curve (a sum of uniform ones), keyed by seed and position. bits: 16 (f16 or
// bf16) or 32.
enum class RandomType : uint8_t { kF32, kF16, kBF16 };
void cuda_fill_random(void* data, int64_t count, RandomType type, uint32_t seed, float deviation,
                      const CudaExec& exec);

}  // namespace donar::bench
