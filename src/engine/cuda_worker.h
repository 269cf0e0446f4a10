// Runs plans on a CUDA device, one step behind the host: inputs in one copy, decode steps as
// captured graphs, sampled ids that stay on the device for the next step and come to the host when
// they are collected. Built only with CUDA; the header is plain C++.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "engine/device_batch.h"
#include "engine/graph_cache.h"
#include "engine/pinned_scratch.h"
#include "engine/step_runner.h"
#include "kv/kv_store.h"
#include "model/decoder.h"
#include "ops/sample_tokens.h"
#include "tensor/cuda.h"
#include "tensor/exec.h"

struct CUevent_st;

namespace donar::engine {

struct CudaWorkerLimits {
  int64_t max_rows = 0;       // tokens of one step
  int64_t max_sequences = 0;  // that run at once
  int64_t max_model_len = 0;  // tokens of one sequence
  int64_t num_blocks = 0;     // of the KV cache
  DType kv_dtype = DType::kBF16;
  int64_t num_tokens = 0;  // ids that may be sampled
  bool enforce_eager = false;
  bool batch_invariant = false;
};

// The 16-bit type that a model's activations and keys and values have on a device: its weights'.
DType cuda_activation(const model::Weights& weights);

// Engine thread only, after create.
class CudaWorker : public StepRunner {
 public:
  // `config` and `weights` outlive the worker. `ledger` is the device's, `host_ledger` that of
  // pinned memory. `pool`: threads that help while the worker is created. Throws CudaError.
  static Result<std::unique_ptr<CudaWorker>> create(const CudaDevice& device, MemoryLedger& ledger,
                                                    MemoryLedger& host_ledger, ThreadPool& pool,
                                                    const model::ModelConfig& config,
                                                    const model::Weights& weights,
                                                    const CudaWorkerLimits& limits);
  // What create takes of the device's memory beside the KV cache; num_blocks does not matter.
  static uint64_t workspace_bytes(const CudaDevice& device, const model::ModelConfig& config,
                                  const model::Weights& weights, const CudaWorkerLimits& limits);
  ~CudaWorker() override;

  void start_thread() override { use_cuda_device(ordinal_); }
  int depth() const override { return 1; }
  Result<void> launch(const StepPlan& plan) override;
  Result<StepResult> collect() override;
  bool use_idle_moment() override;

 private:
  // What a step in flight owns on the host: its inputs until they are copied, its results.
  struct Step {
    Buffer inputs, ids, logprobs;  // pinned
    PinnedScratch scratch;
    CUevent_st* done = nullptr;
    std::vector<HeadResult> head;
    size_t num_lines = 0;
    int num_samples = 0;
    bool is_graph = false;
  };

  CudaWorker(const CudaDevice& device, CudaStream stream, const model::ModelConfig& config,
             const model::Weights& weights, const CudaWorkerLimits& limits);
  Result<void> allocate(MemoryLedger& ledger, MemoryLedger& host_ledger,
                        const model::ModelConfig& config);
  void warm_up();

  // Fills the step's inputs and puts their copy into the stream.
  const DeviceBatch& bring(const StepPlan& plan, int64_t padded_rows, Step& step);
  void count_tokens(const Sequence& sequence, Step& step);
  model::ForwardBatch forward_batch(const DeviceBatch& batch, bool is_graph) const;

  // These put kernels into the stream. decode: all that a graph of its kind holds.
  void decode(const DeviceBatch& batch, GraphKind kind);
  void run_eagerly(const DeviceBatch& batch, Step& step);
  void compute_logits(const model::ForwardBatch& forward, int64_t begin, int64_t count);
  void sample(const DeviceBatch& batch, const SampleSlice& slice, Step& step);
  void sample(const DeviceBatch& batch, int64_t begin, ops::SampleBatch samples);
  void run_padding(int64_t rows, GraphKind kind);
  void run_prompt_padding(int64_t rows);
  void run_rare_kernels();

  const int ordinal_;
  const CudaWorkerLimits limits_;
  const int64_t vocab_size_;
  const int64_t slice_rows_;  // rows whose logits exist at a time
  CudaStream stream_;
  std::optional<model::Decoder> decoder_;
  std::optional<kv::KvStore> kv_;
  DeviceBatchBuilder builder_;

  std::optional<Arena> arena_;
  Exec exec_;
  Buffer inputs_;        // a step's arrays, as device_batch.h lays them out
  Buffer block_tables_;  // [max_sequences, max_blocks] i32, by slot
  Buffer attention_workspace_;
  Buffer hidden_;  // activation of [slice rows, dim]
  Buffer logits_;  // [slice rows, vocab_size] f32
  Buffer sample_memory_;
  ops::SampleState sample_state_;
  Buffer ids_;       // [max_rows] i32
  Buffer logprobs_;  // [max_rows] SampleLogprobs

  std::array<Step, kMaxDepth + 1> steps_;
  size_t num_launched_ = 0, num_collected_ = 0;
  std::unique_ptr<GraphCache> graphs_;
};

}  // namespace donar::engine
