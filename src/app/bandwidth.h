// The read bandwidth of this machine or its GPU, measured: what a memory-bound decode is compared
// with.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/thread_pool.h"
#include "tensor/cuda.h"
#include "tensor/memory_ledger.h"

namespace donar::app {

// Bytes per second that all threads of `pool` read together, best of several passes over a buffer
// larger than the caches.
Result<double> measure_read_bandwidth(ThreadPool& pool, MemoryLedger& ledger);

// The same of a CUDA device, the calling thread's. Takes up to 2 GB of what is free there.
Result<double> measure_cuda_read_bandwidth(const CudaDevice& device);

}  // namespace donar::app
