// What this machine can do at most, measured in the same minute as the ops: read bandwidth and
// arithmetic peaks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "tensor/exec.h"

namespace donar::bench {

struct Ceilings {
  double read_gb_per_s = 0;  // all threads streaming a buffer far larger than the caches
  double int8_tops = 0;      // multiply and add counted as two
  double f32_tflops = 0;
  double bf16_tflops = 0;  // of bf16 weights: f32, in which they are multiplied, or AMX tiles
};

Ceilings measure_ceilings(ThreadPool& pool, CpuIsa isa);

// Reads all of `data` once, with all threads. What it returns is of no
// interest, but has to be kept.
int64_t read_all(ThreadPool& pool, CpuIsa isa, const std::byte* data, int64_t bytes);

// Loops of independent instructions, without memory; `iterations` times the returned number of
// operations.
double avx512_int8_loop(long iterations);
double avx512_f32_loop(long iterations);
double amx_int8_loop(long iterations);
double amx_bf16_loop(long iterations);
long avx512_read_loop(const void* data, long bytes);

}  // namespace donar::bench
