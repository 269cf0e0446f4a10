// Scheduler, worker and the loop between them, on one thread of its own. See run() in engine.cpp.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "engine/engine_api.h"
#include "engine/engine_config.h"
#include "engine/kv_sizing.h"
#include "engine/step_runner.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "tensor/cuda.h"
#include "tensor/exec.h"

namespace donar::engine {

// The CUDA device that an engine computes on; without a device: the CPU.
struct CudaTarget {
  const CudaDevice* device = nullptr;   // open in the calling thread; the weights are in its memory
  MemoryLimit limit;                    // of that memory, weights included
  MemoryLedger* host_ledger = nullptr;  // of pinned memory
};

class Engine : public EngineApi {
 public:
  // Takes the weights, sizes and allocates KV cache, activations and workspace (all through the
  // ledger, which is that of the weights' memory, refused with numbers if they do not fit), and
  // starts the engine thread. `threads`: CPU threads of the step; on CUDA, of the start.
  // tokenizer_vocab: ids at or above it are never sampled (padding rows of the embedding); 0: all
  // may be. The ledgers and listener (may be null) outlive the engine.
  static Result<std::unique_ptr<Engine>> create(MemoryLedger& ledger, model::ModelConfig config,
                                                model::Weights weights,
                                                const EngineConfig& engine_config, int threads,
                                                int64_t tokenizer_vocab, StatsListener* listener,
                                                const CudaTarget& cuda = {});
  // Whether create will find room on a CUDA device, for weights whose sizes are planned
  // (model::plan_weights): asked before they are loaded.
  static Result<void> check_fits(MemoryLedger& ledger, const model::ModelConfig& config,
                                 const model::Weights& planned, const EngineConfig& engine_config,
                                 const CudaTarget& cuda);
  // For tests: any runner, a KV cache of num_blocks blocks, no model.
  static std::unique_ptr<Engine> create_with_runner(std::unique_ptr<StepRunner> runner,
                                                    const EngineConfig& engine_config,
                                                    int64_t num_blocks,
                                                    std::vector<int32_t> eos_tokens,
                                                    StatsListener* listener);
  ~Engine() override;  // shutdown(0 s) if that has not happened

  Result<Stream> submit(Request request) override;
  EngineGauges gauges() const override;
  int64_t max_model_len() const override;
  bool healthy() const override;
  void reset_prefix_cache() override;

  // Thread-safe. `callback` runs once when the engine has failed and its streams have ended: on the
  // engine thread, or here and now if that has happened. An empty one takes the last one back: it
  // does not run any more.
  void notify_failure(std::function<void()> callback);

  // Closes the inbox (submit then answers kUnavailable), lets running requests finish for at most
  // `drain`, aborts the rest, joins. Callable once more from another thread with a shorter time to
  // cut the wait.
  void shutdown(std::chrono::milliseconds drain);

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace donar::engine
