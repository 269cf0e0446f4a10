// A step on the CPU: everything was allocated in create.
#include "engine/worker.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace donar::engine {
namespace {

int64_t slice_rows(const WorkerLimits& limits) {
  return std::min(model::Decoder::head_rows(DeviceType::kCpu), limits.batch.max_rows);
}

Result<Buffer> workspace(MemoryLedger& ledger, uint64_t bytes) {
  return Buffer::allocate(ledger, MemoryUse::kWorkspace, bytes);
}

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;

std::span<std::byte> bytes_of(const Buffer& buffer) { return {buffer.data(), buffer.size()}; }

// Blocks are taken in order, so the first pages of each layer serve the first few thousand tokens.
std::span<std::byte> first_blocks(const kv::KvLayer& layer) {
  const int64_t bytes =
      layer.num_blocks * layer.block_elements() * static_cast<int64_t>(dtype_size(layer.dtype));
  return {static_cast<std::byte*>(layer.data), std::min(static_cast<size_t>(bytes), kHugePage)};
}

}  // namespace

Worker::Worker(model::Decoder decoder, kv::KvStore kv, BatchBuilder builder, Sampler sampler,
               Buffer arena, int num_threads)
    : decoder_(std::move(decoder)),
      kv_(std::move(kv)),
      builder_(std::move(builder)),
      sampler_(std::move(sampler)),
      pool_(num_threads),
      arena_(std::move(arena)),
      exec_{DeviceType::kCpu, detect_cpu_isa(), &pool_, &arena_} {}

Result<std::unique_ptr<Worker>> Worker::create(MemoryLedger& ledger,
                                               const model::ModelConfig& config,
                                               const model::Weights& weights,
                                               const WorkerLimits& limits) {
  const int64_t max_rows = limits.batch.max_rows;
  Result<Buffer> arena = workspace(
      ledger,
      model::Decoder::workspace_bytes(DeviceType::kCpu, config, max_rows, limits.num_threads));
  if (!arena) return forward_error(arena);
  Result<Buffer> hidden =
      workspace(ledger, static_cast<uint64_t>(max_rows * config.dim) * sizeof(float));
  if (!hidden) return forward_error(hidden);
  Result<Buffer> logits = workspace(
      ledger, static_cast<uint64_t>(slice_rows(limits) * config.vocab_size) * sizeof(float));
  if (!logits) return forward_error(logits);
  Result<BatchBuilder> builder = BatchBuilder::create(ledger, limits.batch);
  if (!builder) return forward_error(builder);
  Result<Sampler> sampler = Sampler::create(ledger, config.vocab_size, limits.num_tokens,
                                            config.eos_tokens, limits.num_threads);
  if (!sampler) return forward_error(sampler);
  Result<model::Decoder> decoder =
      model::Decoder::create(Exec{}, ledger, config, weights, max_rows, limits.max_positions);
  if (!decoder) return forward_error(decoder);
  Result<kv::KvStore> kv = kv::KvStore::create(
      ledger, model::Decoder::kv_layers(config, limits.kv_dtype), limits.num_blocks);
  if (!kv) return forward_error(kv);

  std::vector<std::span<std::byte>> unused = {bytes_of(*logits), bytes_of(*hidden),
                                              bytes_of(*arena)};
  for (int i = 0; i < kv->num_layers(); ++i) unused.push_back(first_blocks(kv->layer(i)));

  std::unique_ptr<Worker> worker(new Worker(std::move(*decoder), std::move(*kv),
                                            std::move(*builder), std::move(*sampler),
                                            std::move(*arena), limits.num_threads));
  worker->hidden_ = std::move(*hidden);
  worker->logits_ = std::move(*logits);
  worker->drawn_.resize(static_cast<size_t>(max_rows));
  worker->unused_ = std::move(unused);
  return worker;
}

Result<void> Worker::launch(const StepPlan& plan) {
  const model::ForwardBatch& batch = builder_.build(plan);
  const std::span<const HeadRow> head = builder_.head_rows();
  const auto num_rows = static_cast<int64_t>(head.size());
  const int64_t dim = decoder_.config().dim, vocab_size = decoder_.config().vocab_size;

  const TensorView hidden(hidden_.data(), DType::kF32, {num_rows, dim});
  decoder_.forward(exec_, batch, kv_);
  decoder_.final_norm(exec_, batch, 0, num_rows, hidden);
  const int64_t slice = model::Decoder::head_rows(DeviceType::kCpu);
  for (int64_t begin = 0; begin < num_rows; begin += slice) {
    const int64_t count = std::min(slice, num_rows - begin);
    const TensorView logits(logits_.data(), DType::kF32, {count, vocab_size});
    decoder_.logits(exec_, hidden.rows(begin, count), logits);
    sampler_.run(pool_, {logits_.as<float>(), static_cast<size_t>(count * vocab_size)},
                 head.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
                 std::span(drawn_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)));
  }

  // Head rows lie in the order of the plan's lines: a line's prompt rows, then the row that it
  // samples.
  StepResult& result = result_;
  result = {};
  result.sampled.reserve(static_cast<size_t>(plan.num_samples));
  size_t next = 0;
  for (size_t i = 0; i < plan.lines.size(); ++i) {
    for (; next < head.size() && head[next].sequence == plan.lines[i].sequence; ++next) {
      if (head[next].prompt_token < 0) {
        result.sampled.push_back(std::move(drawn_[next]));
        continue;
      }
      if (result.prompt_logprobs.empty()) result.prompt_logprobs.resize(plan.lines.size());
      result.prompt_logprobs[i].push_back(std::move(drawn_[next].logprobs));
    }
  }
  DONAR_CHECK(next == head.size());
  return {};
}

bool Worker::use_idle_moment() {
  if (unused_.empty()) return false;
  std::span<std::byte>& region = unused_.back();
  const std::span<std::byte> piece = region.first(std::min(region.size(), kHugePage));
  // A step may have written here already: the values stay.
  for (size_t at = 0; at < piece.size(); at += kPage) {
    volatile std::byte& value = piece[at];
    value = value;
  }
  region = region.subspan(piece.size());
  if (region.empty()) unused_.pop_back();
  return true;
}

}  // namespace donar::engine
