// Every CPU operation: verified against the reference, then timed beside the machine's ceilings of
// the same minute: a plain read or copy of as many bytes taken by turns with it, and arithmetic
// without memory. Prints a table and one JSON line per case.
// ./bench_ops [filter...] [--threads N] [--isa portable|avx2|...] [--commit ID]
#include "bench/ops/cpu_bench.h"

int main(int argc, char** argv) {
  donar::bench::CpuBench bench(donar::bench::CpuBench::parse(argc, argv));
  donar::bench::row_cases(bench);
  donar::bench::attention_cases(bench);
  donar::bench::linear_cases(bench);
#if DONAR_BENCH_ENGINE
  donar::bench::sampler_cases(bench);
#endif
  return bench.status();
}
