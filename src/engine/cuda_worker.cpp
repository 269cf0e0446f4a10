// A step on a CUDA device. How the worker is put together is in cuda_worker_create.cpp.
#include "engine/cuda_worker.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ops/activation.h"
#include "ops/scatter_ints.h"

namespace donar::engine {
namespace {

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw_cuda_error(code, call);
}

GraphKind kind_of(const ops::SampleNeeds& needs) {
  if (needs.rules || needs.logprobs) return GraphKind::kLogits;
  return needs.draws ? GraphKind::kDraws : GraphKind::kGreedy;
}

PositionLogprobs position_logprobs(const ops::SampleLogprobs& sampled) {
  PositionLogprobs logprobs;
  logprobs.reserve(static_cast<size_t>(sampled.num_best) + 1);
  logprobs.push_back({sampled.token, sampled.logprob, sampled.rank});
  for (int i = 0; i < sampled.num_best; ++i)
    logprobs.push_back({sampled.best_tokens[i], sampled.best_logprobs[i], i + 1});
  return logprobs;
}

}  // namespace

CudaWorker::~CudaWorker() {
  // A broken device answers with its error again; it was reported where it happened.
  cudaStreamSynchronize(stream_.handle());
  for (const Step& step : steps_)
    if (step.done) cudaEventDestroy(step.done);
}

Result<void> CudaWorker::launch(const StepPlan& plan) {
  DONAR_CHECK(num_launched_ - num_collected_ < steps_.size());
  Step& step = steps_[num_launched_ % steps_.size()];
  const int64_t padded =
      is_decode_plan(plan) ? graphs_->padded(static_cast<int64_t>(plan.lines.size())) : 0;
  const DeviceBatch& batch = bring(plan, padded, step);

  // Lists of rules that do not fit at once cut the rows into slices.
  const std::span<const SampleSlice> slices = builder_.samples().slices();
  const bool is_decode = padded > 0 && slices.size() == 1;
  const GraphKind kind = is_decode ? kind_of(slices.front().needs) : GraphKind::kLogits;
  step.is_graph = is_decode && graphs_->contains(padded, kind);
  if (step.is_graph) {
    graphs_->replay(padded, kind);
  } else if (is_decode) {
    decode(batch, kind);
  } else {
    run_eagerly(batch, step);
  }
  if (is_decode && kind == GraphKind::kLogits) sample(batch, slices.front(), step);

  if (!batch.head.empty())
    cuda_copy(step.ids.data(), ids_.data(), batch.head.size() * sizeof(int32_t), stream_.handle());
  if (builder_.samples().num_logprobs() > 0) {
    const auto count = static_cast<uint64_t>(builder_.samples().num_logprobs());
    cuda_copy(step.logprobs.data(), logprobs_.data(), count * sizeof(ops::SampleLogprobs),
              stream_.handle());
  }
  check(cudaEventRecord(step.done, stream_.handle()), "cudaEventRecord");
  step.head = batch.head;
  step.num_lines = plan.lines.size();
  step.num_samples = plan.num_samples;
  ++num_launched_;
  // While the device is busy with this one, the next of its size gets its graph.
  if (is_decode && !step.is_graph) graphs_->capture(padded, kind, [&] { decode(batch, kind); });
  return {};
}

Result<StepResult> CudaWorker::collect() {
  DONAR_CHECK(num_collected_ < num_launched_);
  Step& step = steps_[num_collected_++ % steps_.size()];
  check(cudaEventSynchronize(step.done), "a step on the device");  // sleeps; see the event's flags
  step.scratch.clear();

  StepResult result;
  result.is_graph = step.is_graph;
  result.sampled.reserve(static_cast<size_t>(step.num_samples));
  const auto* ids = step.ids.as<int32_t>();
  const auto* logprobs = step.logprobs.as<ops::SampleLogprobs>();
  for (size_t i = 0; i < step.head.size(); ++i) {
    const HeadResult& head = step.head[i];
    PositionLogprobs position;
    if (head.logprobs_index >= 0) position = position_logprobs(logprobs[head.logprobs_index]);
    if (head.is_draw) {
      result.sampled.push_back({ids[i], std::move(position)});
      continue;
    }
    if (result.prompt_logprobs.empty()) result.prompt_logprobs.resize(step.num_lines);
    result.prompt_logprobs[static_cast<size_t>(head.line)].push_back(std::move(position));
  }
  return result;
}

const DeviceBatch& CudaWorker::bring(const StepPlan& plan, int64_t padded_rows, Step& step) {
  const DeviceBatch& batch = builder_.build(plan, padded_rows, step.inputs.data());
  step.scratch.for_pieces(std::span<const ops::ScatteredInt>(batch.table_changes), stream_.handle(),
                          [&](const ops::ScatteredInt* piece, int64_t count) {
                            ops::scatter_ints(exec_, block_tables_.as<int32_t>(), piece, count);
                          });
  for (const Sequence* sequence : batch.counted) count_tokens(*sequence, step);
  // Last: attention reads block tables without waiting for the kernel before it, but no kernel of
  // this step begins before this copy, and no copy before the kernels above have ended.
  cuda_copy(inputs_.data(), step.inputs.data(), batch.bytes, stream_.handle());
  return batch;
}

void CudaWorker::count_tokens(const Sequence& sequence, Step& step) {
  ops::clear_token_counts(exec_, sample_state_, sequence.slot);
  const std::span<const int32_t> tokens(sequence.tokens);
  const auto num_prompt = static_cast<size_t>(sequence.num_prompt());
  const auto add = [&](std::span<const int32_t> part, bool is_output) {
    step.scratch.for_pieces(part, stream_.handle(), [&](const int32_t* piece, int64_t count) {
      ops::add_token_counts(exec_, sample_state_, sequence.slot, piece, count, is_output);
    });
  };
  add(tokens.first(num_prompt), /*is_output=*/false);
  add(tokens.subspan(num_prompt), /*is_output=*/true);
}

model::ForwardBatch CudaWorker::forward_batch(const DeviceBatch& batch, bool is_graph) const {
  const DeviceBatchLayout& layout = batch.layout;
  std::byte* const base = inputs_.data();
  const auto ints = [&](uint64_t offset, int64_t count) {
    return TensorView(base + offset, DType::kI32, {count});
  };
  model::ForwardBatch forward;
  forward.tokens = ints(layout.tokens, batch.rows);
  forward.previous = TensorView(sample_state_.last_tokens, DType::kI32, {sample_state_.num_slots});
  forward.positions = ints(layout.positions, batch.rows);
  forward.slots = ints(layout.slots, batch.rows);
  forward.query_start = ints(layout.query_start, batch.sequences + 1);
  forward.block_tables = TensorView(block_tables_.data(), DType::kI32,
                                    {limits_.max_sequences, kv::blocks_for(limits_.max_model_len)});
  forward.sample_rows = ints(layout.sample_rows, batch.num_samples);

  ops::AttentionPlan& plan = forward.attention;
  const auto* items = reinterpret_cast<const ops::AttentionItem*>(base + layout.items);
  plan.decode_items = items;
  plan.prefill_items = items + (is_graph ? 0 : batch.items.decode);
  plan.counts = reinterpret_cast<const int32_t*>(base + layout.counts);
  plan.has_decode_items = is_graph || batch.items.decode > 0;
  plan.num_prefill_items = is_graph ? 0 : batch.items.prefill;
  plan.workspace = attention_workspace_.data();
  plan.limits = builder_.limits().attention;
  return forward;
}

void CudaWorker::decode(const DeviceBatch& batch, GraphKind kind) {
  const model::ForwardBatch forward = forward_batch(batch, /*is_graph=*/true);
  decoder_->forward(exec_, forward, *kv_);
  const int64_t count = std::min(batch.num_samples, slice_rows_);
  compute_logits(forward, 0, count);
  if (kind == GraphKind::kLogits) return;
  ops::SampleBatch samples;
  samples.num_rows = count;
  samples.needs.draws = kind == GraphKind::kDraws;
  sample(batch, 0, samples);
}

void CudaWorker::run_eagerly(const DeviceBatch& batch, Step& step) {
  const model::ForwardBatch forward = forward_batch(batch, /*is_graph=*/false);
  decoder_->forward(exec_, forward, *kv_);
  for (const SampleSlice& slice : builder_.samples().slices()) {
    compute_logits(forward, slice.begin, slice.count);
    sample(batch, slice, step);
  }
}

void CudaWorker::compute_logits(const model::ForwardBatch& forward, int64_t begin, int64_t count) {
  const TensorView hidden =
      ops::activation_view(exec_, hidden_.data(), count, decoder_->config().dim);
  decoder_->final_norm(exec_, forward, begin, count, hidden);
  decoder_->logits(exec_, hidden, TensorView(logits_.data(), DType::kF32, {count, vocab_size_}));
}

void CudaWorker::sample(const DeviceBatch& batch, const SampleSlice& slice, Step& step) {
  ops::SampleBatch samples;
  samples.num_rows = slice.count;
  samples.needs = slice.needs;
  if (slice.list_bytes() > 0) {
    const SampleRows& rows = builder_.samples();
    std::byte* to = step.scratch.take(slice.list_bytes(), stream_.handle());
    const auto copy = [&]<class T>(std::span<const T> list) {
      T* const copied = reinterpret_cast<T*>(to);
      std::ranges::copy(list, copied);
      to += list.size_bytes();
      return static_cast<const T*>(copied);
    };
    samples.bias = copy(rows.bias().subspan(slice.bias_begin, slice.num_bias));
    samples.bans = copy(rows.bans().subspan(slice.bans_begin, slice.num_bans));
    samples.allowed = copy(rows.allowed().subspan(slice.allowed_begin, slice.num_allowed));
    samples.max_bias = static_cast<int64_t>(slice.num_bias);
  }
  sample(batch, slice.begin, samples);
}

void CudaWorker::sample(const DeviceBatch& batch, int64_t begin, ops::SampleBatch samples) {
  samples.num_tokens = limits_.num_tokens;
  samples.rows =
      reinterpret_cast<const ops::SampleRow*>(inputs_.data() + batch.layout.samples) + begin;
  ops::sample_tokens(exec_, logits_.as<float>(), samples, sample_state_, ids_.as<int32_t>() + begin,
                     logprobs_.as<ops::SampleLogprobs>());
}

bool CudaWorker::use_idle_moment() {
  if (graphs_->is_full()) return false;
  for (const int64_t size : graphs_->sizes()) {
    for (const GraphKind kind : {GraphKind::kGreedy, GraphKind::kDraws}) {
      if (graphs_->contains(size, kind)) continue;
      run_padding(size, kind);
      return true;
    }
  }
  return false;
}

// A step of nothing but padding: all kernels of that size run, and change nothing.
void CudaWorker::run_padding(int64_t rows, GraphKind kind) {
  DONAR_CHECK(num_launched_ == num_collected_);
  const DeviceBatch& batch = bring(StepPlan{}, rows, steps_[num_launched_ % steps_.size()]);
  decode(batch, kind);
  if (graphs_->padded(rows) == rows) graphs_->capture(rows, kind, [&] { decode(batch, kind); });
  stream_.wait();
}

// The same as prompts run: their attention is there, and finds no work.
void CudaWorker::run_prompt_padding(int64_t rows) {
  DONAR_CHECK(num_launched_ == num_collected_);
  const DeviceBatch& batch = bring(StepPlan{}, rows, steps_[num_launched_ % steps_.size()]);
  model::ForwardBatch forward = forward_batch(batch, /*is_graph=*/true);
  forward.attention.num_prefill_items = limits_.batch_invariant ? 0 : 1;
  decoder_->forward(exec_, forward, *kv_);
  stream_.wait();
}

// What some requests need beside a graph's kernels. No sequence is there yet: the first block table
// keeps its 0, the first counts are cleared again, and a row of padding draws nothing.
void CudaWorker::run_rare_kernels() {
  DONAR_CHECK(num_launched_ == 0);
  Step& step = steps_[0];
  const ops::ScatteredInt nothing{};
  const int32_t token = 0;
  step.scratch.for_pieces(std::span(&nothing, 1), stream_.handle(),
                          [&](const ops::ScatteredInt* piece, int64_t count) {
                            ops::scatter_ints(exec_, block_tables_.as<int32_t>(), piece, count);
                          });
  step.scratch.for_pieces(std::span(&token, 1), stream_.handle(),
                          [&](const int32_t* piece, int64_t count) {
                            ops::add_token_counts(exec_, sample_state_, /*counts_slot=*/0, piece,
                                                  count, /*is_output=*/true);
                          });
  ops::clear_token_counts(exec_, sample_state_, /*counts_slot=*/0);
  ops::SampleBatch samples;
  samples.num_rows = 1;
  samples.needs = {.rules = true, .draws = true, .logprobs = true};
  sample(bring(StepPlan{}, /*padded_rows=*/1, step), 0, samples);
  stream_.wait();
  step.scratch.clear();
}

}  // namespace donar::engine
