// What a CUDA launcher needs to know of the device: plain data, seen by nvcc and by the host
// compiler.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace donar {

using CudaStreamHandle = CUstream_st*;  // cudaStream_t

struct CudaExec {
  CudaStreamHandle stream = nullptr;
  int ordinal = 0;                      // of the device
  int arch = 0;                         // 87, 90, 110, 121
  int num_sms = 0;                      // streaming multiprocessors
  uint64_t shared_bytes_per_block = 0;  // dynamic shared memory that a kernel may ask for

  bool has_bulk_copy() const { return arch >= 90; }  // cp.async.bulk, mbarrier, dependent launches
};

}  // namespace donar
