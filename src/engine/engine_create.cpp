// Puts an engine together: resolves every "auto", allocates through the ledger, starts the thread.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "engine/cuda_worker.h"
#include "engine/engine_impl.h"
#include "engine/kv_sizing.h"
#include "engine/worker.h"
#include "ops/cuda_limits.h"

namespace donar::engine {
namespace {

tl::unexpected<Error> refuse(std::string param, std::string message) {
  return tl::unexpected<Error>(
      Error{ErrorCode::kInvalidArgument, std::move(message), std::move(param)});
}

Result<void> validate_config(const EngineConfig& config) {
  if (config.max_num_seqs < 1) {
    return refuse("max_num_seqs",
                  fmt::format("max_num_seqs must be at least 1, got {}", config.max_num_seqs));
  }
  if (config.max_num_batched_tokens < config.max_num_seqs) {
    return refuse("max_num_batched_tokens",
                  fmt::format("max_num_batched_tokens ({}) must be at least max_num_seqs ({}): "
                              "every sequence needs a token a step",
                              config.max_num_batched_tokens, config.max_num_seqs));
  }
  if (config.max_waiting < 1)
    return refuse("max_waiting",
                  fmt::format("max_waiting must be at least 1, got {}", config.max_waiting));
  if (config.max_model_len < -1)
    return refuse("max_model_len",
                  "max_model_len must be positive, or -1 (auto) for the longest that fits");
  if (config.kv_cache_bytes < 0)
    return refuse("kv_cache_bytes", "kv_cache_bytes must be positive, or 0 for a share of memory");
  return {};
}

SchedulerConfig scheduler_config(const EngineConfig& config, int64_t max_model_len,
                                 std::vector<int32_t> eos_tokens) {
  SchedulerConfig scheduler;
  scheduler.max_model_len = max_model_len;
  scheduler.max_num_seqs = config.max_num_seqs;
  scheduler.max_num_batched_tokens =
      config.chunked_prefill
          ? config.max_num_batched_tokens
          : static_cast<int>(std::max<int64_t>(config.max_num_batched_tokens, max_model_len));
  scheduler.chunked_prefill = config.chunked_prefill;
  scheduler.prefix_caching = config.prefix_caching;
  scheduler.eos_tokens = std::move(eos_tokens);
  return scheduler;
}

uint64_t available_bytes(const MemoryLedger& ledger) {
  const uint64_t available = available_host_memory();
  if (ledger.limit_bytes() == 0) return available;
  return std::min(available, ledger.limit_bytes() - std::min(ledger.limit_bytes(), ledger.total()));
}

// On CUDA keys and values are of the type that the kernels compute in.
Result<DType> kv_dtype(const EngineConfig& config, [[maybe_unused]] const model::Weights& weights,
                       [[maybe_unused]] const CudaTarget& cuda) {
  if constexpr (kCuda) {
    if (!cuda.device) return config.kv_dtype.value_or(DType::kBF16);
    const DType dtype = cuda_activation(weights);
    if (!config.kv_dtype || *config.kv_dtype == dtype) return dtype;
    return refuse(
        "kv_cache_dtype",
        fmt::format("the KV cache cannot be in {} on {}: there it has the type of the weights, {} "
                    "here; leave --kv-cache-dtype out, or {} as well",
                    dtype_name(*config.kv_dtype), cuda.device->name, dtype_name(dtype),
                    *config.kv_dtype == DType::kF32
                        ? std::string("give --device cpu")
                        : fmt::format("give --dtype {}", dtype_name(*config.kv_dtype))));
  }
  return config.kv_dtype.value_or(DType::kBF16);
}

// Whether the CUDA kernels take a model's shape, and so many rows of a step.
Result<void> check_cuda_limits(const model::ModelConfig& model, int64_t max_rows) {
  struct Limit {
    std::string_view what;
    int64_t value, most;
  };
  for (const auto& [what, value, most] :
       {Limit{"a width", model.dim, ops::kCudaMaxDim},
        Limit{"heads", model.head_dim, ops::kCudaMaxHeadDim},
        Limit{"a vocabulary", model.vocab_size, ops::kCudaMaxVocab}}) {
    if (value > most)
      return fail(ErrorCode::kUnsupported,
                  "the model has {} of {}, and the CUDA device takes at most {}: --device cpu runs "
                  "it",
                  what, value, most);
  }
  const int64_t heads = int64_t{model.q_heads} + 2 * int64_t{model.kv_heads};
  if (const int64_t most = ops::kCudaMaxRowHeads / heads; max_rows > most)
    return refuse("max_num_batched_tokens",
                  fmt::format("a step of {} tokens is more than the CUDA device takes of this "
                              "model, {}: lower --max-num-batched-tokens (or --max-model-len, "
                              "where prompts run whole)",
                              max_rows, most));
  return {};
}

// The part of Engine::create that depends on the device.
struct Creation {
  MemoryLedger& ledger;
  const EngineConfig& config;  // resolved
  int threads;
  int64_t tokenizer_vocab;
  const CudaTarget& cuda;

  // On the CPU the weights are in memory already.
  KvBudget budget(const model::Weights& weights) const {
    KvBudget budget;
    if (cuda.device) {
      budget.limit = cuda.limit;
      budget.weight_bytes = weights.bytes;
      return budget;
    }
    budget.limit.bytes =
        config.kv_cache_bytes > 0 ? std::numeric_limits<uint64_t>::max() : available_bytes(ledger);
    budget.share = 0.25;
    budget.fill = false;
    return budget;
  }

  int64_t num_tokens(const model::ModelConfig& model) const {
    return tokenizer_vocab > 0 ? std::min(tokenizer_vocab, model.vocab_size) : model.vocab_size;
  }
  int64_t max_rows(int64_t max_model_len) const {
    return scheduler_config(config, max_model_len, {}).max_num_batched_tokens;
  }

  WorkerLimits cpu_limits(const model::ModelConfig& model, const KvSize& size) const {
    WorkerLimits limits;
    limits.batch.max_rows = max_rows(size.max_model_len);
    limits.batch.max_sequences = config.max_num_seqs;
    limits.batch.max_blocks = kv::blocks_for(size.max_model_len);
    limits.num_blocks = size.num_blocks;
    limits.max_positions = size.max_model_len;
    limits.kv_dtype = *config.kv_dtype;
    limits.num_threads = threads;
    limits.num_tokens = num_tokens(model);
    return limits;
  }
  CudaWorkerLimits cuda_limits(const model::ModelConfig& model, int64_t max_model_len,
                               int64_t num_blocks) const {
    CudaWorkerLimits limits;
    limits.max_rows = max_rows(max_model_len);
    limits.max_sequences = config.max_num_seqs;
    limits.max_model_len = max_model_len;
    limits.num_blocks = num_blocks;
    limits.kv_dtype = *config.kv_dtype;
    limits.num_tokens = num_tokens(model);
    limits.enforce_eager = config.enforce_eager;
    limits.batch_invariant = config.batch_invariant;
    return limits;
  }

  // On the CPU the cache takes a share that leaves room for it.
  uint64_t workspace_bytes([[maybe_unused]] const model::ModelConfig& model,
                           [[maybe_unused]] const model::Weights& weights,
                           [[maybe_unused]] int64_t max_model_len) const {
    if constexpr (kCuda) {
      if (cuda.device)
        return CudaWorker::workspace_bytes(*cuda.device, model, weights,
                                           cuda_limits(model, max_model_len, /*num_blocks=*/0));
    }
    return 0;
  }

  uint64_t bytes_per_block(const model::ModelConfig& model) const {
    return kv::KvStore::bytes_per_block(model::Decoder::kv_layers(model, *config.kv_dtype));
  }
  Result<KvSize> size(const model::ModelConfig& model, const model::Weights& weights) const {
    if (Result<void> taken = check_limits(model, config.max_num_batched_tokens); !taken)
      return forward_error(taken);
    Result<KvSize> size = size_kv_cache(
        config, model.max_position, bytes_per_block(model), budget(weights),
        [&](int64_t max_model_len) { return workspace_bytes(model, weights, max_model_len); });
    if (!size) return size;
    if (Result<void> taken = check_limits(model, max_rows(size->max_model_len)); !taken)
      return forward_error(taken);
    return size;
  }
  Result<void> check_limits(const model::ModelConfig& model, int64_t max_rows) const {
    return cuda.device ? check_cuda_limits(model, max_rows) : Result<void>();
  }

  Result<std::unique_ptr<StepRunner>> runner(const model::ModelConfig& model,
                                             const model::Weights& weights,
                                             const KvSize& size) const {
    if constexpr (kCuda) {
      if (cuda.device) return cuda_runner(model, weights, size);
    }
    Result<std::unique_ptr<Worker>> worker =
        Worker::create(ledger, model, weights, cpu_limits(model, size));
    if (!worker) return forward_error(worker);
    return std::unique_ptr<StepRunner>(std::move(*worker));
  }

  Result<std::unique_ptr<StepRunner>> cuda_runner(const model::ModelConfig& model,
                                                  const model::Weights& weights,
                                                  const KvSize& size) const {
    if constexpr (kCuda) {
      try {
        ThreadPool pool(threads);  // while the worker is created
        Result<std::unique_ptr<CudaWorker>> worker =
            CudaWorker::create(*cuda.device, ledger, *cuda.host_ledger, pool, model, weights,
                               cuda_limits(model, size.max_model_len, size.num_blocks));
        if (!worker) return forward_error(worker);
        return std::unique_ptr<StepRunner>(std::move(*worker));
      } catch (const CudaError& error) {
        return fail(ErrorCode::kInternal, "{} does not run the model: {}", cuda.device->name,
                    error.what());
      }
    }
    return fail(ErrorCode::kUnsupported, "this program was built without CUDA");
  }
};

Result<EngineConfig> resolve(const EngineConfig& asked, const model::Weights& weights, int threads,
                             const CudaTarget& cuda) {
  EngineConfig config = with_defaults(asked, cuda.device ? DeviceType::kCuda : DeviceType::kCpu);
  if (Result<void> valid = validate_config(config); !valid) return forward_error(valid);
  if (threads < 1)
    return refuse("threads", fmt::format("threads must be at least 1, got {}", threads));
  const Result<DType> dtype = kv_dtype(config, weights, cuda);
  if (!dtype) return tl::unexpected<Error>(dtype.error());
  config.kv_dtype = *dtype;
  return config;
}

}  // namespace

Engine::Impl::Impl(const EngineConfig& config, const RequestLimits& request_limits,
                   const SchedulerConfig& scheduler_config, int64_t num_blocks,
                   StatsListener* stats_listener)
    : limits(request_limits),
      max_queued(config.max_waiting),
      seed(config.seed),
      listener(stats_listener),
      inbox(static_cast<size_t>(config.max_waiting) + 1),  // and one wake-up
      scheduler(scheduler_config, num_blocks) {
  gauges = scheduler.gauges();
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run_to_end(); });
}

Engine::~Engine() { shutdown(std::chrono::milliseconds(0)); }

Result<void> Engine::check_fits(MemoryLedger& ledger, const model::ModelConfig& config,
                                const model::Weights& planned, const EngineConfig& asked,
                                const CudaTarget& cuda) {
  const Result<EngineConfig> resolved = resolve(asked, planned, /*threads=*/1, cuda);
  if (!resolved) return tl::unexpected<Error>(resolved.error());
  const Creation creation{ledger, *resolved, /*threads=*/1, /*tokenizer_vocab=*/0, cuda};
  const Result<KvSize> size = creation.size(config, planned);
  if (!size) return tl::unexpected<Error>(size.error());
  return {};
}

Result<std::unique_ptr<Engine>> Engine::create(MemoryLedger& ledger, model::ModelConfig config,
                                               model::Weights weights, const EngineConfig& asked,
                                               int threads, int64_t tokenizer_vocab,
                                               StatsListener* listener, const CudaTarget& cuda) {
  const Result<EngineConfig> resolved = resolve(asked, weights, threads, cuda);
  if (!resolved) return tl::unexpected<Error>(resolved.error());
  const EngineConfig& engine_config = *resolved;
  const Creation creation{ledger, engine_config, threads, tokenizer_vocab, cuda};
  const Result<KvSize> size = creation.size(config, weights);
  if (!size) return tl::unexpected<Error>(size.error());
  if (size->is_len_reduced && engine_config.max_model_len == 0) {
    log_warn(
        "context reduced from the model's {} tokens to the {} that the KV cache holds; to get "
        "more, give it more memory",
        config.max_position, size->max_model_len);
  }
  const SchedulerConfig scheduler =
      scheduler_config(engine_config, size->max_model_len, config.eos_tokens);
  const uint64_t kv_bytes =
      static_cast<uint64_t>(size->num_blocks) * creation.bytes_per_block(config);
  RequestLimits limits;
  limits.max_model_len = size->max_model_len;
  limits.vocab_size = config.vocab_size;
  auto impl = std::make_unique<Impl>(engine_config, limits, scheduler, size->num_blocks, listener);
  impl->model_config = std::move(config);
  impl->weights = std::move(weights);
  Result<std::unique_ptr<StepRunner>> runner =
      creation.runner(impl->model_config, impl->weights, *size);
  if (!runner) return forward_error(runner);
  impl->runner = std::move(*runner);

  log_info(
      "KV cache: {} blocks of {} tokens in {}, {}; context {} tokens, {} sequences, {} tokens a "
      "step",
      size->num_blocks, kv::kBlockTokens, dtype_name(*engine_config.kv_dtype),
      format_bytes(kv_bytes), size->max_model_len, scheduler.max_num_seqs,
      scheduler.max_num_batched_tokens);
  log_info("memory: {}", ledger.summary());
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

std::unique_ptr<Engine> Engine::create_with_runner(std::unique_ptr<StepRunner> runner,
                                                   const EngineConfig& asked, int64_t num_blocks,
                                                   std::vector<int32_t> eos_tokens,
                                                   StatsListener* listener) {
  const EngineConfig engine_config = with_defaults(asked, DeviceType::kCpu);
  const int64_t capacity = num_blocks * kv::kBlockTokens;
  const int64_t max_model_len =
      engine_config.max_model_len > 0 ? std::min(engine_config.max_model_len, capacity) : capacity;
  RequestLimits limits;
  limits.max_model_len = max_model_len;
  auto impl = std::make_unique<Impl>(
      engine_config, limits, scheduler_config(engine_config, max_model_len, std::move(eos_tokens)),
      num_blocks, listener);
  impl->runner = std::move(runner);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

}  // namespace donar::engine
