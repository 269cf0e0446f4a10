// What the cases of bench_ops share: the threads and ceilings of one run, timing beside a plain
// read or copy, and one table row and JSON line per case.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "bench/ops/ceilings.h"
#include "quant/format.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::bench {

class CpuBench {
 public:
  struct Options {
    int threads = available_cpus();
    CpuIsa isa = detect_cpu_isa();
    std::vector<std::string> filters;  // cases whose name contains one of them; none: all
    std::string commit;                // printed in the JSON lines
  };
  // [filter...] [--threads N] [--isa NAME] [--commit ID]; ends the process with a sentence if an
  // argument is not one of them. Without --commit, git is asked.
  static Options parse(int argc, char** argv);

  // Measures the machine's ceilings.
  explicit CpuBench(Options options);

  bool wanted(const std::string& name);
  Exec& exec() { return ex_; }
  ThreadPool& pool() { return pool_; }
  const Ceilings& ceilings() const { return ceilings_; }
  double peak_of(quant::Format format) const;  // 1e12 operations per second

  // Copies of the data of one case, which rotates through them, so that none is left in a cache
  // when its turn comes again: a step visits its weights and keys once. One memory for all cases,
  // with huge pages as the engine has them; the next case overwrites it.
  struct Copies {
    std::byte* data = nullptr;
    int64_t bytes = 0;   // of one copy
    int64_t stride = 0;  // from one to the next
    int64_t count = 1;

    std::byte* at(int64_t i) const { return data + i % count * stride; }
    void repeat_first() const;  // the others become what the first one is
  };
  Copies cold_copies(int64_t bytes) const;

  using Run = std::function<void(int64_t)>;  // run(i) uses copy i of its data
  struct Time {
    double us = 0;       // median of the runs
    double best_us = 0;  // the fastest one: what a busy machine leaves to be seen
    int64_t runs = 0;
  };
  // A run and something plain that moves as many bytes, taken by turns: the bandwidth of a shared
  // machine changes from second to second.
  struct Timed {
    Time run, peer;
    double peer_bytes = 0;  // that the peer moves; 0: there is none
  };
  static Timed measure(const Run& run);
  Timed measure_beside_read(const Run& run, const Copies& data);
  // A copy of half of `bytes` to the other half, which are in the caches as far as they fit, by as
  // many threads as a row op of that size gets, or by one.
  Timed measure_beside_copy(const Run& run, int64_t bytes, bool one_thread = false);

  // What a case cannot do without.
  struct Cost {
    double bytes = 0;       // read and written
    double operations = 0;  // of arithmetic, a multiply and add counted as two
    double tera_peak = 0;   // 1e12 operations per second at best; 0: not compared
  };
  // Shares: of what the peer moves in the same time, and of the peak. The larger one is the case's,
  // as both limit it.
  void report(const std::string& name, const Timed& time, const Cost& cost, bool correct);

  // 0, or 1 and a sentence if a result was wrong, or 2 and a sentence if a filter matched no case.
  int status() const;

 private:
  static Timed measure(const Run& run, const Run* peer, double peer_bytes);

  Options options_;
  std::string device_;
  MemoryLedger ledger_;
  ThreadPool pool_;
  Arena arena_;
  Exec ex_;
  Ceilings ceilings_;
  Buffer copies_;
  int64_t sink_ = 0;
  std::vector<bool> matched_;     // by filter
  std::vector<std::string> ops_;  // first words of the names asked for, in order
  int num_wrong_ = 0;
};

inline TensorView floats(std::vector<float>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kF32, shape};
}
inline TensorView ints(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kI32, shape};
}
// An output before the op has written it: no comparison with it holds.
inline std::vector<float> poisoned(int64_t count) {
  return std::vector<float>(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
}

// The cases, a file each.
void linear_cases(CpuBench& bench);
void attention_cases(CpuBench& bench);
void row_cases(CpuBench& bench);
void sampler_cases(CpuBench& bench);

}  // namespace donar::bench
