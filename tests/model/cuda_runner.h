// A model on a CUDA device, and steps built by hand: tests/model/runner.h for the other device.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "kv/kv_store.h"
#include "model/decoder.h"
#include "model/model.h"
#include "ops/activation.h"
#include "tensor/cuda.h"
#include "tests/model/runner.h"

namespace donar::model::test {

// The device, or why there is none.
inline Result<CudaDevice> cuda_test_device() {
  Result<std::vector<CudaDevice>> devices = cuda_devices();
  if (!devices) return forward_error(devices);
  if (devices->empty()) return fail(ErrorCode::kNotFound, "there is no CUDA device");
  return open_cuda_device(0);
}

class CudaRunner {
 public:
  struct Options {
    std::optional<DType> dtype;  // kBF16 or kF16; nullopt: that of the checkpoint
    bool batch_invariant = false;
    int max_rows = 160;
    int max_positions = 128;
    int sequences = 4;
  };
  // What a step does besides computing.
  struct StepOptions {
    std::vector<std::vector<float>>* entering = nullptr;  // stream into each layer, [row * dim]
    std::vector<float>* final_hidden = nullptr;           // [samples * dim], rounded to 16 bits
    const std::vector<int32_t>* sampled_rows = nullptr;   // else all
    int padding = 0;                // rows behind the others that belong to no sequence
    bool graph = false;             // captured and replayed, instead of kernel by kernel
    std::vector<int32_t> previous;  // what tokens below 0 stand for
  };

  // nullptr after a failed assertion.
  static std::unique_ptr<CudaRunner> open(const fs::path& path, const CudaDevice& device,
                                          const Options& options) {
    std::unique_ptr<CudaRunner> runner(new CudaRunner(device, options));
    if (runner->start(path)) return runner;
    return nullptr;
  }

  // Logits of every row (or of the rows sampled), in the order of `step`.
  std::vector<std::vector<float>> step(const std::vector<StepRows>& step) {
    return this->step(step, StepOptions());
  }
  std::vector<std::vector<float>> step(const std::vector<StepRows>& step,
                                       const StepOptions& options) {
    const ModelConfig& config = files_->config;
    std::vector<int32_t> tokens, positions, slots, starts{0}, tables, samples;
    for (const StepRows& rows : step) {
      int32_t& position = computed_[static_cast<size_t>(rows.sequence)];
      for (const int32_t token : rows.tokens) {
        samples.push_back(static_cast<int32_t>(tokens.size()));
        tokens.push_back(token);
        positions.push_back(position);
        slots.push_back(block(rows.sequence, position / kv::kBlockTokens) * kv::kBlockTokens +
                        position % kv::kBlockTokens);
        ++position;
      }
      starts.push_back(static_cast<int32_t>(tokens.size()));
      for (int i = 0; i < blocks_per_sequence(); ++i) tables.push_back(block(rows.sequence, i));
    }
    if (options.sampled_rows) samples = *options.sampled_rows;
    const ops::AttentionItemCapacity capacity = ops::max_attention_items(limits_);
    std::vector<ops::AttentionItem> decode(static_cast<size_t>(capacity.decode)),
        prefill(static_cast<size_t>(capacity.prefill));
    const ops::AttentionItemCounts counts = ops::plan_attention(
        limits_, starts, positions, /*allow_prefill=*/true, decode.data(), prefill.data());
    for (int i = 0; i < options.padding; ++i) {
      tokens.push_back(0);
      positions.push_back(0);
      slots.push_back(-1);
    }

    const auto count = static_cast<int64_t>(tokens.size());
    const auto num_samples = static_cast<int64_t>(samples.size());
    const auto sequences = static_cast<int64_t>(step.size());
    ForwardBatch batch;
    batch.tokens = upload(tokens, {count});
    batch.positions = upload(positions, {count});
    batch.slots = upload(slots, {count});
    batch.query_start = upload(starts, {sequences + 1});
    batch.block_tables = upload(tables, {sequences, blocks_per_sequence()});
    batch.sample_rows = upload(samples, {num_samples});
    if (!options.previous.empty())
      batch.previous = upload(options.previous, {static_cast<int64_t>(options.previous.size())});
    batch.attention.decode_items = upload_items(decode, counts.decode);
    batch.attention.prefill_items = upload_items(prefill, counts.prefill);
    batch.attention.counts =
        upload(std::vector<int32_t>{counts.decode, counts.prefill}, {2}).as<int32_t>();
    batch.attention.has_decode_items = counts.decode > 0;
    batch.attention.num_prefill_items = counts.prefill;
    batch.attention.workspace = attention_workspace_.data();
    batch.attention.limits = limits_;

    const auto num_layers = static_cast<int64_t>(config.layers.size());
    HiddenCapture capture;
    for (int i = 0; i < num_layers; ++i) capture.layers.push_back(i);
    capture.out = TensorView(take(count * num_layers * config.dim * 4), DType::kF32,
                             {count, num_layers * config.dim});
    const int64_t slice = std::min(Decoder::head_rows(ex_.device), num_samples);
    const TensorView hidden = ops::activation_view(
        ex_, take(ops::activation_bytes(ex_.device, slice, config.dim)), slice, config.dim);
    const TensorView logits(take(slice * config.vocab_size * 4), DType::kF32,
                            {slice, config.vocab_size});
    EXPECT_LE(num_samples, Decoder::head_rows(ex_.device)) << "one slice of the head is enough";
    run(options.graph, [&] {
      decoder_->forward(ex_, batch, *kv_, options.entering ? &capture : nullptr);
      decoder_->final_norm(ex_, batch, 0, num_samples, hidden);
      decoder_->logits(ex_, hidden, logits);
    });

    if (options.entering) {
      const std::vector<float> captured = download<float>(capture.out);
      options.entering->assign(static_cast<size_t>(num_layers), {});
      for (int64_t row = 0; row < count - options.padding; ++row)
        for (int64_t layer = 0; layer < num_layers; ++layer) {
          const float* from = captured.data() + (row * num_layers + layer) * config.dim;
          auto& out = (*options.entering)[static_cast<size_t>(layer)];
          out.insert(out.end(), from, from + config.dim);
        }
    }
    if (options.final_hidden) {
      const std::vector<uint16_t> tiled = download<uint16_t>(hidden);
      options.final_hidden->clear();
      for (int64_t row = 0; row < num_samples; ++row)
        for (int64_t i = 0; i < config.dim; ++i) {
          const uint16_t bits = tiled[static_cast<size_t>(ops::tiled_offset(row, i, slice))];
          options.final_hidden->push_back(
              ex_.activation == DType::kF16
                  ? f16_to_f32(bits)
                  : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
        }
    }
    const std::vector<float> all = download<float>(logits);
    std::vector<std::vector<float>> rows;
    for (int64_t i = 0; i < num_samples; ++i)
      rows.emplace_back(all.begin() + i * config.vocab_size,
                        all.begin() + (i + 1) * config.vocab_size);
    step_buffers_.clear();
    return rows;
  }

  // One sequence from its beginning, in pieces of at most `chunk` tokens.
  std::vector<std::vector<float>> run(const std::vector<int32_t>& tokens, size_t chunk,
                                      int sequence = 0) {
    restart(sequence);
    std::vector<std::vector<float>> logits;
    for (size_t i = 0; i < tokens.size(); i += chunk) {
      const auto end = std::min(tokens.size(), i + chunk);
      for (auto& row : step({{sequence,
                              {tokens.begin() + static_cast<int64_t>(i),
                               tokens.begin() + static_cast<int64_t>(end)}}}))
        logits.push_back(std::move(row));
    }
    return logits;
  }

  void restart(int sequence) { computed_[static_cast<size_t>(sequence)] = 0; }
  int32_t computed(int sequence) const { return computed_[static_cast<size_t>(sequence)]; }
  // The next step of this sequence begins at `position` again.
  void rewind(int sequence, int32_t position) {
    computed_[static_cast<size_t>(sequence)] = position;
  }
  const ModelFiles& files() const { return *files_; }
  DType activation() const { return ex_.activation; }

 private:
  CudaRunner(const CudaDevice& device, const Options& options)
      : options_(options), device_(device), pool_(2) {}

  bool start(const fs::path& path) {
    stream_ = std::make_unique<CudaStream>(CudaStream::create(device_));
    Result<ModelFiles> files = open_model(path);
    if (!took(files)) return false;
    files_ = std::make_unique<ModelFiles>(std::move(*files));
    LoadOptions load;
    load.dtype = options_.dtype;
    const Result<DType> dtype = cuda_dtype(*files_, load);
    if (!took(dtype)) return false;
    ex_.device = DeviceType::kCuda;
    ex_.pool = &pool_;
    ex_.cuda = &stream_->exec();
    ex_.activation = *dtype;
    ex_.batch_invariant = options_.batch_invariant;
    Result<Weights> weights = load_weights(ex_, ledger_, *files_, load, &host_ledger_);
    if (!took(weights)) return false;
    weights_ = std::make_unique<Weights>(std::move(*weights));
    const ModelConfig& config = files_->config;
    Result<Decoder> decoder =
        Decoder::create(ex_, ledger_, config, *weights_, options_.max_rows, options_.max_positions);
    if (!took(decoder)) return false;
    decoder_ = std::make_unique<Decoder>(std::move(*decoder));
    Result<kv::KvStore> kv =
        kv::KvStore::create(ledger_, Decoder::kv_layers(config, ex_.activation),
                            options_.sequences * blocks_per_sequence());
    if (!took(kv)) return false;
    kv_ = std::make_unique<kv::KvStore>(std::move(*kv));
    limits_.max_rows = options_.max_rows;
    limits_.max_sequences = options_.sequences;
    limits_.max_decode_rows =
        options_.batch_invariant ? 0 : options_.sequences * ops::kAttentionDecodeRows;
    limits_.max_model_len = options_.max_positions;
    limits_.q_heads = config.q_heads;
    limits_.kv_heads = config.kv_heads;
    limits_.head_dim = config.head_dim;
    limits_.num_sms = device_.num_sms;
    limits_.batch_invariant = options_.batch_invariant;
    Result<Buffer> workspace =
        Buffer::allocate(ledger_, MemoryUse::kWorkspace, ops::attention_workspace_bytes(limits_));
    Result<Buffer> scratch = Buffer::allocate(
        ledger_, MemoryUse::kWorkspace,
        Decoder::workspace_bytes(DeviceType::kCuda, config, options_.max_rows, /*num_threads=*/1));
    if (!took(workspace) || !took(scratch)) return false;
    attention_workspace_ = std::move(*workspace);
    arena_ = std::make_unique<Arena>(std::move(*scratch));
    ex_.arena = arena_.get();
    computed_.assign(static_cast<size_t>(options_.sequences), 0);
    return true;
  }

  template <class T>
  static bool took(const Result<T>& result) {
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message);
    return result.has_value();
  }
  static void check(cudaError_t code, const char* call) {
    if (code != cudaSuccess) throw_cuda_error(code, call);
  }

  template <class Work>
  void run(bool graph, const Work& work) {
    CudaStreamHandle stream = stream_->handle();
    if (!graph) {
      work();
      return stream_->wait();
    }
    cudaGraph_t captured = nullptr;
    cudaGraphExec_t instance = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    work();
    check(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&instance, captured, 0), "cudaGraphInstantiate");
    check(cudaGraphLaunch(instance, stream), "cudaGraphLaunch");
    stream_->wait();
    check(cudaGraphExecDestroy(instance), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(captured), "cudaGraphDestroy");
  }

  // Memory of this step, all ones: what nobody writes shows as NaN.
  void* take(int64_t bytes) {
    Result<Buffer> buffer = Buffer::allocate(ledger_, MemoryUse::kWorkspace,
                                             static_cast<uint64_t>(std::max<int64_t>(bytes, 16)));
    if (!buffer) throw CudaError(buffer.error().message);
    check(cudaMemsetAsync(buffer->data(), 0xff, buffer->size(), stream_->handle()), "memset");
    step_buffers_.push_back(std::move(*buffer));
    return step_buffers_.back().data();
  }
  TensorView upload(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    const TensorView view(take(static_cast<int64_t>(values.size() * sizeof(int32_t))), DType::kI32,
                          shape);
    if (!values.empty())
      cuda_copy(view.data, values.data(), values.size() * sizeof(int32_t), stream_->handle());
    stream_->wait();
    return view;
  }
  const ops::AttentionItem* upload_items(const std::vector<ops::AttentionItem>& items,
                                         int32_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(ops::AttentionItem);
    void* to = take(static_cast<int64_t>(bytes));
    if (bytes > 0) cuda_copy(to, items.data(), bytes, stream_->handle());
    stream_->wait();
    return static_cast<const ops::AttentionItem*>(to);
  }
  template <class T>
  std::vector<T> download(const TensorView& view) {
    std::vector<T> values(static_cast<size_t>(view.numel()));
    if (!values.empty())
      cuda_copy(values.data(), view.data, values.size() * sizeof(T), stream_->handle());
    stream_->wait();
    return values;
  }

  int blocks_per_sequence() const {
    return (options_.max_positions + kv::kBlockTokens - 1) / kv::kBlockTokens;
  }
  // Blocks of the sequences lie between each other's, so that a wrong table shows.
  int32_t block(int sequence, int index) const { return index * options_.sequences + sequence; }

  const Options options_;
  const CudaDevice device_;
  MemoryLedger ledger_{0, MemorySpace::kCuda};  // outlive every buffer below
  MemoryLedger host_ledger_;
  ThreadPool pool_;
  std::unique_ptr<CudaStream> stream_;
  Exec ex_;
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<kv::KvStore> kv_;
  ops::AttentionPlanLimits limits_;
  Buffer attention_workspace_;
  std::unique_ptr<Arena> arena_;
  std::vector<Buffer> step_buffers_;
  std::vector<int32_t> computed_;
};

}  // namespace donar::model::test
