// A loaded model with its cache, and steps built by hand: what engine/batch_builder does, in the
// plainest form.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>

#include "kv/kv_store.h"
#include "model/decoder.h"
#include "model/model.h"
#include "tests/model/test_files.h"

namespace donar::model::test {

// One sequence's share of a step.
struct StepRows {
  int sequence = 0;
  std::vector<int32_t> tokens;
};

class Runner {
 public:
  struct Options {
    std::optional<DType> dtype;
    DType kv = DType::kF32;
    int threads = 2;
    CpuIsa isa = detect_cpu_isa();
    LoadFormat load_format = LoadFormat::kAuto;
    int max_rows = 96;
    int max_positions = 128;
    int sequences = 4;
  };

  // nullptr after a failed assertion.
  static std::unique_ptr<Runner> open(const fs::path& path, const Options& options) {
    std::unique_ptr<Runner> runner(new Runner(options));
    if (runner->start(path)) return runner;
    return nullptr;
  }

  // Runs one step; logits of every row (or of the rows sampled), in the order of `step`. Optionally
  // the stream entering each layer, [layer][row * dim], and the hidden states that the logits come
  // from.
  std::vector<std::vector<float>> step(const std::vector<StepRows>& step,
                                       std::vector<std::vector<float>>* entering = nullptr,
                                       std::vector<float>* final_hidden = nullptr,
                                       const std::vector<int32_t>* sampled_rows = nullptr) {
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
    if (sampled_rows) samples = *sampled_rows;
    const auto count = static_cast<int64_t>(tokens.size());
    const auto num_samples = static_cast<int64_t>(samples.size());
    const auto sequences = static_cast<int64_t>(step.size());
    ForwardBatch batch;
    batch.tokens = {tokens.data(), DType::kI32, {count}};
    batch.positions = {positions.data(), DType::kI32, {count}};
    batch.slots = {slots.data(), DType::kI32, {count}};
    batch.query_start = {starts.data(), DType::kI32, {sequences + 1}};
    batch.block_tables = {tables.data(), DType::kI32, {sequences, blocks_per_sequence()}};
    batch.sample_rows = {samples.data(), DType::kI32, {num_samples}};

    const auto num_layers = static_cast<int64_t>(config.layers.size());
    std::vector<float> hidden(static_cast<size_t>(num_samples * config.dim));
    std::vector<float> captured(static_cast<size_t>(count * config.dim * num_layers));
    HiddenCapture capture;
    for (int i = 0; i < num_layers; ++i) capture.layers.push_back(i);
    capture.out = {captured.data(), DType::kF32, {count, num_layers * config.dim}};
    const TensorView hidden_view(hidden.data(), DType::kF32, {num_samples, config.dim});
    decoder_->forward(ex_, batch, *kv_, entering ? &capture : nullptr);
    decoder_->final_norm(ex_, batch, 0, num_samples, hidden_view);
    if (final_hidden) *final_hidden = hidden;
    if (entering) {
      entering->assign(static_cast<size_t>(num_layers), {});
      for (int64_t row = 0; row < count; ++row)
        for (int64_t layer = 0; layer < num_layers; ++layer) {
          const float* from = captured.data() + (row * num_layers + layer) * config.dim;
          auto& out = (*entering)[static_cast<size_t>(layer)];
          out.insert(out.end(), from, from + config.dim);
        }
    }

    std::vector<std::vector<float>> logits;
    for (int64_t row = 0; row < num_samples; row += Decoder::head_rows(ex_.device)) {
      const int64_t rows = std::min(Decoder::head_rows(ex_.device), num_samples - row);
      std::vector<float> slice(static_cast<size_t>(rows * config.vocab_size));
      decoder_->logits(ex_, hidden_view.rows(row, rows),
                       {slice.data(), DType::kF32, {rows, config.vocab_size}});
      for (int64_t i = 0; i < rows; ++i)
        logits.emplace_back(slice.begin() + i * config.vocab_size,
                            slice.begin() + (i + 1) * config.vocab_size);
    }
    return logits;
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

  // Greedy continuation, one token a step.
  std::vector<int32_t> greedy(const std::vector<int32_t>& prompt, int count) {
    std::vector<float> last = run(prompt, prompt.size()).back();
    std::vector<int32_t> out;
    for (int i = 0; i < count; ++i) {
      out.push_back(
          static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
      last = step({{0, {out.back()}}}).back();
    }
    return out;
  }

  void restart(int sequence) { computed_[static_cast<size_t>(sequence)] = 0; }
  const ModelFiles& files() const { return *files_; }
  const Weights& weights() const { return *weights_; }
  MemoryLedger& ledger() { return *ledger_; }
  Exec& exec() { return ex_; }

 private:
  explicit Runner(const Options& options) : options_(options) {}

  bool start(const fs::path& path) {
    ledger_ = std::make_unique<MemoryLedger>();
    pool_ = std::make_unique<ThreadPool>(options_.threads);
    ex_.isa = options_.isa;
    ex_.pool = pool_.get();
    Result<ModelFiles> files = open_model(path);
    if (!took(files)) return false;
    files_ = std::make_unique<ModelFiles>(std::move(*files));
    LoadOptions load;
    load.dtype = options_.dtype;
    load.load_format = options_.load_format;
    Result<Weights> weights = load_weights(ex_, *ledger_, *files_, load);
    if (!took(weights)) return false;
    weights_ = std::make_unique<Weights>(std::move(*weights));
    const ModelConfig& config = files_->config;
    Result<Decoder> decoder = Decoder::create(Exec{}, *ledger_, config, *weights_,
                                              options_.max_rows, options_.max_positions);
    if (!took(decoder)) return false;
    decoder_ = std::make_unique<Decoder>(std::move(*decoder));
    Result<kv::KvStore> kv = kv::KvStore::create(*ledger_, Decoder::kv_layers(config, options_.kv),
                                                 options_.sequences * blocks_per_sequence());
    if (!took(kv)) return false;
    kv_ = std::make_unique<kv::KvStore>(std::move(*kv));
    Result<Buffer> scratch = Buffer::allocate(
        *ledger_, MemoryUse::kWorkspace,
        Decoder::workspace_bytes(DeviceType::kCpu, config, options_.max_rows, options_.threads));
    if (!took(scratch)) return false;
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

  int blocks_per_sequence() const {
    return (options_.max_positions + kv::kBlockTokens - 1) / kv::kBlockTokens;
  }
  // Blocks of the sequences lie between each other's, so that a wrong table shows.
  int32_t block(int sequence, int index) const { return index * options_.sequences + sequence; }

  const Options options_;
  std::unique_ptr<MemoryLedger> ledger_;  // outlives every buffer below
  std::unique_ptr<ThreadPool> pool_;
  Exec ex_;
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<kv::KvStore> kv_;
  std::unique_ptr<Arena> arena_;
  std::vector<int32_t> computed_;
};

inline std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - top);
  std::vector<double> out;
  for (const float logit : logits) out.push_back(logit - top - std::log(sum));
  return out;
}

}  // namespace donar::model::test
