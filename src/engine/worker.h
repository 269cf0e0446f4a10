// Runs plans on one device: batch, forward pass, head in slices, sampler. Owns everything that a
// step needs beside the weights.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/batch_builder.h"
#include "engine/sampler.h"
#include "engine/step_runner.h"
#include "kv/kv_store.h"
#include "model/decoder.h"
#include "tensor/exec.h"

namespace donar::engine {

struct WorkerLimits {
  BatchLimits batch;
  int64_t num_blocks = 0;  // of the KV cache
  int64_t max_positions = 0;
  DType kv_dtype = DType::kBF16;
  int num_threads = 1;
  int64_t num_tokens = 0;  // ids that may be sampled
};

// Engine thread only, after create.
class Worker : public StepRunner {
 public:
  // `config` and `weights` outlive the worker.
  static Result<std::unique_ptr<Worker>> create(MemoryLedger& ledger,
                                                const model::ModelConfig& config,
                                                const model::Weights& weights,
                                                const WorkerLimits& limits);
  int depth() const override { return 0; }
  Result<void> launch(const StepPlan& plan) override;
  Result<StepResult> collect() override { return std::move(result_); }
  // Has the kernel find and clear memory that the first steps write to, some at a time: it takes
  // longer than the rest of a short prompt.
  bool use_idle_moment() override;

 private:
  Worker(model::Decoder decoder, kv::KvStore kv, BatchBuilder builder, Sampler sampler,
         Buffer arena, int num_threads);

  model::Decoder decoder_;
  kv::KvStore kv_;
  BatchBuilder builder_;
  Sampler sampler_;
  ThreadPool pool_;
  Arena arena_;
  Exec exec_;
  Buffer hidden_;                             // [max_rows, dim] f32: rows whose logits are wanted
  Buffer logits_;                             // [<= kHeadRows, vocab_size] f32: one slice
  std::vector<SampledToken> drawn_;           // one per head row
  StepResult result_;                         // of the step that was launched
  std::vector<std::span<std::byte>> unused_;  // memory that use_idle_moment has not touched
};

}  // namespace donar::engine
