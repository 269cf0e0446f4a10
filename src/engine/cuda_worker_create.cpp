// What a CudaWorker owns: its sizes in one place, for planning and for allocating, and its first
// kernels and graphs.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/cuda_worker.h"
#include "ops/activation.h"

namespace donar::engine {
namespace {

Result<Buffer> workspace(MemoryLedger& ledger, uint64_t bytes) {
  return Buffer::allocate(ledger, MemoryUse::kWorkspace, bytes);
}

// An exec for questions about sizes: no stream, no memory.
CudaExec described(const CudaDevice& device) {
  CudaExec exec;
  exec.ordinal = device.ordinal;
  exec.arch = device.arch;
  exec.num_sms = device.num_sms;
  exec.shared_bytes_per_block = device.shared_bytes_per_block;
  return exec;
}

Exec cuda_exec(const CudaExec& cuda, const model::Weights& weights,
               const CudaWorkerLimits& limits) {
  Exec ex;
  ex.device = DeviceType::kCuda;
  ex.cuda = &cuda;
  ex.activation = cuda_activation(weights);
  ex.batch_invariant = limits.batch_invariant;
  return ex;
}

// Logits are f32 and large: no more rows of them than one step of decoding samples, but enough for
// prompt logprobs to run at the speed of the head.
int64_t slice_rows(const CudaWorkerLimits& limits) {
  constexpr int64_t kFewRows = 64;
  return std::min({model::Decoder::head_rows(DeviceType::kCuda), limits.max_rows,
                   std::max(limits.max_sequences, kFewRows)});
}

ops::AttentionPlanLimits attention_limits(const Exec& ex, const model::ModelConfig& config,
                                          const CudaWorkerLimits& limits) {
  ops::AttentionPlanLimits attention;
  attention.max_rows = static_cast<int>(limits.max_rows);
  attention.max_sequences = static_cast<int>(limits.max_sequences);
  // In steps of up to 64 rows a short prompt's rows are computed as they are alone.
  constexpr int64_t kIndependentRows = 64;
  attention.max_decode_rows = static_cast<int>(
      limits.batch_invariant
          ? limits.max_rows
          : std::max(limits.max_sequences, std::min(limits.max_rows, kIndependentRows)));
  attention.max_model_len = static_cast<int>(limits.max_model_len);
  attention.q_heads = config.q_heads;
  attention.kv_heads = config.kv_heads;
  attention.head_dim = config.head_dim;
  attention.num_sms = ex.cuda->num_sms;
  attention.batch_invariant = limits.batch_invariant;
  return attention;
}

DeviceBatchLimits batch_limits(const Exec& ex, const model::ModelConfig& config,
                               const CudaWorkerLimits& limits) {
  DeviceBatchLimits batch;
  batch.max_rows = limits.max_rows;
  batch.max_slots = limits.max_sequences;
  batch.max_blocks = kv::blocks_for(limits.max_model_len);
  batch.samples.vocab_size = config.vocab_size;
  batch.samples.max_slice_rows = slice_rows(limits);
  batch.samples.eos_tokens = config.eos_tokens;
  batch.attention = attention_limits(ex, config, limits);
  return batch;
}

// Bytes on the device beside weights, KV cache and what the decoder allocates.
struct Sizes {
  Sizes(const Exec& ex, const model::ModelConfig& config, const CudaWorkerLimits& limits) {
    const DeviceBatchLimits batch = batch_limits(ex, config, limits);
    const int64_t slice = slice_rows(limits), vocab = config.vocab_size;
    arena = std::max(
        model::Decoder::workspace_bytes(DeviceType::kCuda, config, limits.max_rows,
                                        /*num_threads=*/1),
        ops::sample_workspace_bytes(slice, vocab, static_cast<int64_t>(batch.samples.max_bias())));
    inputs = DeviceBatchBuilder::buffer_bytes(batch);
    block_tables = static_cast<uint64_t>(batch.max_slots * batch.max_blocks) * sizeof(int32_t);
    attention = ops::attention_workspace_bytes(batch.attention);
    hidden = static_cast<uint64_t>(ops::activation_bytes(DeviceType::kCuda, slice, config.dim));
    logits = static_cast<uint64_t>(slice * vocab) * sizeof(float);
    samples = ops::sample_state_bytes(vocab, batch.max_slots, batch.max_slots, slice);
    ids = static_cast<uint64_t>(limits.max_rows) * sizeof(int32_t);
    logprobs = static_cast<uint64_t>(limits.max_rows) * sizeof(ops::SampleLogprobs);
    scratch = std::max<uint64_t>(kLeastScratch, batch.samples.max_list_bytes());
  }
  uint64_t total() const {
    return arena + inputs + block_tables + attention + hidden + logits + samples + ids + logprobs;
  }

  static constexpr uint64_t kLeastScratch = 256 << 10;  // changes of 16,384 block table entries
  uint64_t arena = 0, inputs = 0, block_tables = 0, attention = 0, hidden = 0, logits = 0,
           samples = 0, ids = 0, logprobs = 0;
  uint64_t scratch = 0;  // pinned, of each step in flight
};

int64_t max_graph_rows(const CudaWorkerLimits& limits) {
  return limits.enforce_eager ? 0 : std::min(limits.max_sequences, slice_rows(limits));
}

}  // namespace

DType cuda_activation(const model::Weights& weights) {
  const quant::Format format =
      weights.layers.empty() ? weights.head.parts[0].format : weights.layers[0].qkv.parts[0].format;
  return format == quant::Format::kF16 ? DType::kF16 : DType::kBF16;
}

uint64_t CudaWorker::workspace_bytes(const CudaDevice& device, const model::ModelConfig& config,
                                     const model::Weights& weights,
                                     const CudaWorkerLimits& limits) {
  const CudaExec cuda = described(device);
  const Exec ex = cuda_exec(cuda, weights, limits);
  const uint64_t num_graphs = 2 * GraphCache::sizes_up_to(max_graph_rows(limits)).size();
  return Sizes(ex, config, limits).total() + num_graphs * GraphCache::kExpectedBytes +
         model::Decoder::activation_bytes(ex, config, weights, limits.max_rows) +
         model::Decoder::cos_sin_bytes(config, limits.max_model_len);
}

CudaWorker::CudaWorker(const CudaDevice& device, CudaStream stream,
                       const model::ModelConfig& config, const model::Weights& weights,
                       const CudaWorkerLimits& limits)
    : ordinal_(device.ordinal),
      limits_(limits),
      vocab_size_(config.vocab_size),
      slice_rows_(slice_rows(limits)),
      stream_(std::move(stream)),
      builder_(batch_limits(cuda_exec(stream_.exec(), weights, limits), config, limits)),
      exec_(cuda_exec(stream_.exec(), weights, limits)) {}

Result<std::unique_ptr<CudaWorker>> CudaWorker::create(const CudaDevice& device,
                                                       MemoryLedger& ledger,
                                                       MemoryLedger& host_ledger, ThreadPool& pool,
                                                       const model::ModelConfig& config,
                                                       const model::Weights& weights,
                                                       const CudaWorkerLimits& limits) {
  DONAR_CHECK(limits.max_rows >= limits.max_sequences && limits.max_sequences > 0);
  std::unique_ptr<CudaWorker> worker(
      new CudaWorker(device, CudaStream::create(device), config, weights, limits));
  if (Result<void> ok = worker->allocate(ledger, host_ledger, config); !ok)
    return forward_error(ok);

  worker->exec_.pool = &pool;
  Result<model::Decoder> decoder = model::Decoder::create(worker->exec_, ledger, config, weights,
                                                          limits.max_rows, limits.max_model_len);
  worker->exec_.pool = nullptr;
  if (!decoder) return forward_error(decoder);
  worker->decoder_.emplace(std::move(*decoder));
  Result<kv::KvStore> kv = kv::KvStore::create(
      ledger, model::Decoder::kv_layers(config, limits.kv_dtype), limits.num_blocks);
  if (!kv) return forward_error(kv);
  worker->kv_.emplace(std::move(*kv));
  worker->graphs_ =
      std::make_unique<GraphCache>(ledger, worker->stream_.handle(), max_graph_rows(limits));
  worker->warm_up();
  return worker;
}

Result<void> CudaWorker::allocate(MemoryLedger& ledger, MemoryLedger& host_ledger,
                                  const model::ModelConfig& config) {
  const Sizes sizes(exec_, config, limits_);
  Buffer arena;
  const std::pair<Buffer*, uint64_t> on_device[] = {{&arena, sizes.arena},
                                                    {&inputs_, sizes.inputs},
                                                    {&block_tables_, sizes.block_tables},
                                                    {&attention_workspace_, sizes.attention},
                                                    {&hidden_, sizes.hidden},
                                                    {&logits_, sizes.logits},
                                                    {&sample_memory_, sizes.samples},
                                                    {&ids_, sizes.ids},
                                                    {&logprobs_, sizes.logprobs}};
  for (const auto& [buffer, bytes] : on_device) {
    Result<Buffer> allocated = workspace(ledger, bytes);
    if (!allocated) return forward_error(allocated);
    *buffer = std::move(*allocated);
  }
  arena_.emplace(std::move(arena));
  exec_.arena = &*arena_;
  sample_state_ = ops::sample_state(sample_memory_.data(), vocab_size_, limits_.max_sequences,
                                    limits_.max_sequences, slice_rows_);

  for (Step& step : steps_) {
    Buffer scratch;
    const std::pair<Buffer*, uint64_t> pinned[] = {{&step.inputs, sizes.inputs},
                                                   {&step.ids, sizes.ids},
                                                   {&step.logprobs, sizes.logprobs},
                                                   {&scratch, sizes.scratch}};
    for (const auto& [buffer, bytes] : pinned) {
      Result<Buffer> allocated = Buffer::allocate_pinned(host_ledger, MemoryUse::kStaging, bytes);
      if (!allocated) return forward_error(allocated);
      *buffer = std::move(*allocated);
    }
    step.scratch = PinnedScratch(std::move(scratch));
    // Whoever waits for it sleeps: the thread's core is free for the others.
    const cudaError_t code =
        cudaEventCreateWithFlags(&step.done, cudaEventBlockingSync | cudaEventDisableTiming);
    if (code != cudaSuccess) throw_cuda_error(code, "cudaEventCreateWithFlags");
  }
  return {};
}

// Kernels are loaded when they first run, which takes milliseconds each: here, not in the first
// requests. Products choose theirs by the number of rows, and the sampler by what is asked of it.
void CudaWorker::warm_up() {
  int64_t last = 0;
  for (const int64_t wanted : {2048, 512, 96}) {
    const int64_t rows = std::min<int64_t>(wanted, limits_.max_rows);
    if (rows != last) run_prompt_padding(rows);
    last = rows;
  }
  for (const int64_t rows : {32, 1})
    run_padding(std::min<int64_t>(rows, limits_.max_rows), GraphKind::kGreedy);
  run_rare_kernels();
}

}  // namespace donar::engine
