// What the CUDA benchmarks share: the device, random data, timing inside a graph, the ceilings of
// the same minute, and one table row and JSON line per case.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/cuda.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::bench {

struct CudaCeilings {
  double read_gb_per_s = 0;  // a read-only stream of 16-byte loads over far more than the L2
  double bf16_tflops = 0;  // dense tensor cores fed from shared memory and registers; 0: not known
};

class CudaBench {
 public:
  struct Options {
    std::string filter;  // cases whose name contains it
    std::string commit;  // printed in the JSON lines
    DType activation = DType::kBF16;
    int ordinal = 0;
    double warm_up_s = 0;  // each case runs that long before it is timed: 2 s find the power limit
  };
  // [filter] [--commit ID] [--dtype bf16|f16] [--device N] [--warm-up SECONDS]; ends the process
  // with a sentence if an argument is not one of them. Without --commit, git is asked.
  static Options parse(int argc, char** argv);

  // Opens the device and measures its ceilings. Throws CudaError where there is no device.
  explicit CudaBench(const Options& options);

  bool wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }
  Exec& exec() { return ex_; }
  const CudaDevice& device() const { return device_; }
  const CudaCeilings& ceilings() const { return ceilings_; }
  MemoryLedger& ledger() { return ledger_; }

  // Device memory that lives until free_tensors(); throws CudaError if there is not enough.
  // random: floats of a bell curve.
  TensorView random(DType dtype, std::initializer_list<int64_t> shape, float deviation = 1.0f);
  TensorView zeros(DType dtype, std::initializer_list<int64_t> shape);
  TensorView upload(const std::vector<int32_t>& values);
  TensorView upload(const std::vector<float>& values);
  // Contents of a contiguous view as floats, after all work so far.
  std::vector<float> download(const TensorView& view);
  void free_tensors();

  // How many copies of data of `bytes` a case rotates through so that none is left in L2 when its
  // turn comes again: their sum is at least four times the L2.
  int64_t cold_copies(uint64_t bytes) const;

  // Median time of one call in us. work(i) enqueues call i on exec().stream; calls are captured
  // into one graph with consecutive i (use copy i % copies), so that launches overlap as they do in
  // a step, and at least `copies` calls are.
  struct Time {
    double us = 0;       // median of the replays, per call
    double best_us = 0;  // the fastest replay
    int calls = 0;       // in a graph
  };
  Time measure(const std::function<void(int64_t)>& work, int64_t copies = 1);

  // Prints a row and a JSON line. bytes: what the case must move through device memory;
  // operations: floating-point operations of a matrix case, 0 elsewhere. `extra`: more JSON fields
  // (",\"rows\":64") or "".
  void report(const std::string& name, Time time, double bytes, double operations = 0,
              const std::string& extra = "");

  // A result that was checked and is wrong: printed, and main's exit status.
  void expect(bool correct, const std::string& name);
  int status() const { return all_correct_ ? 0 : 1; }

 private:
  TensorView tensor(DType dtype, std::initializer_list<int64_t> shape);
  void measure_ceilings();

  Options options_;
  MemoryLedger ledger_{0, MemorySpace::kCuda};
  CudaDevice device_;
  std::unique_ptr<CudaStream> stream_;
  std::unique_ptr<Arena> arena_;
  Exec ex_;
  CudaCeilings ceilings_;
  std::vector<Buffer> buffers_;
  uint32_t seed_ = 1;
  bool all_correct_ = true;
};

// main of a benchmark: parse, open, run, one sentence for a CudaError.
int run_cuda_bench(int argc, char** argv, void (*cases)(CudaBench&));

}  // namespace donar::bench
