// Decoder and sampler of the simulated device. Every kernel reads its arguments when it runs.
#include "tests/engine/sim/simulated_model.h"

#include <cstring>
#include <map>

#include "base/check.h"
#include "model/decoder.h"
#include "ops/activation.h"
#include "ops/cuda/sample_tokens.h"
#include "ops/cuda/scatter_ints.h"
#include "tests/engine/fake_runner.h"
#include "tests/engine/sim/simulated_device.h"

namespace donar::engine::test {

using donar::test::put_into_stream;

model::ModelConfig simulated_config() {
  model::ModelConfig config;
  config.vocab_size = kSimulatedVocab;
  config.dim = 64;
  config.ffn_dim = 64;
  config.q_heads = 4;
  config.kv_heads = 1;
  config.head_dim = 4;  // of 16 bits: one hash
  config.max_position = 4096;
  config.layers.resize(1);
  config.eos_tokens = {kFakeEos};
  return config;
}

int32_t simulated_token(bool is_greedy, uint64_t seed, uint64_t hash, bool bans_eos, int counted) {
  SamplingParams params;
  params.temperature = is_greedy ? 0.0f : 1.0f;
  params.min_tokens = bans_eos ? 1 : 0;
  const uint64_t seen = counted < 0 ? hash : fake_hash(hash, static_cast<uint64_t>(counted));
  return fake_token(params, seed, seen, /*num_output=*/0);
}

float simulated_logprob(uint64_t hash) { return -static_cast<float>(hash % 1000); }

}  // namespace donar::engine::test

namespace donar::model {

using engine::test::fake_hash;

namespace {

uint64_t& hash_at(const kv::KvLayer& layer, int64_t slot) {
  auto* base = static_cast<uint16_t*>(layer.data);
  DONAR_CHECK(slot >= 0 && slot < layer.num_blocks * kv::kBlockTokens, "slot {}", slot);
  return *reinterpret_cast<uint64_t*>(
      base +
      layer.index(slot / kv::kBlockTokens, false, 0, static_cast<int>(slot % kv::kBlockTokens)));
}

// The table of each row, from the work items: who is in none is padding.
std::map<int64_t, int32_t> tables_of_rows(const ops::AttentionPlan& plan) {
  std::map<int64_t, int32_t> tables;
  const auto add = [&](const ops::AttentionItem* items, int32_t count) {
    for (int32_t i = 0; i < count; ++i)
      for (int32_t r = 0; r < items[i].num_rows; ++r)
        tables[items[i].row_begin + r] = items[i].sequence;
  };
  if (plan.has_decode_items) add(plan.decode_items, plan.counts[0]);
  if (!plan.has_decode_items) DONAR_CHECK(plan.counts[0] == 0);
  DONAR_CHECK(plan.num_prefill_items >= plan.counts[1]);
  add(plan.prefill_items, plan.counts[1]);
  return tables;
}

void run_rows(const ForwardBatch& batch, const kv::KvLayer& layer, uint64_t* hashes) {
  const std::map<int64_t, int32_t> tables = tables_of_rows(batch.attention);
  for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
    const int64_t slot = batch.slots.as<int32_t>()[row];
    const int64_t position = batch.positions.as<int32_t>()[row];
    int32_t token = batch.tokens.as<int32_t>()[row];
    hashes[row] = 0;
    const auto table = tables.find(row);
    DONAR_CHECK((slot < 0) == (table == tables.end()), "row {} at slot {}", row, slot);
    if (slot < 0) continue;
    if (token < 0) token = batch.previous.as<int32_t>()[-1 - token];
    const auto slot_of = [&](int64_t at) {
      return int64_t{batch.block_tables.row<int32_t>(table->second)[at / kv::kBlockTokens]} *
                 kv::kBlockTokens +
             at % kv::kBlockTokens;
    };
    DONAR_CHECK(slot == slot_of(position), "row {}: slot {} of {}", row, slot, slot_of(position));
    const uint64_t before = position == 0 ? 1 : hash_at(layer, slot_of(position - 1));
    hash_at(layer, slot) = hashes[row] = fake_hash(before, static_cast<uint64_t>(token));
  }
}

}  // namespace

Result<Decoder> Decoder::create(const Exec&, MemoryLedger& ledger, const ModelConfig& config,
                                const Weights& weights, int64_t max_rows, int64_t) {
  Decoder decoder;
  decoder.config_ = &config;
  decoder.weights_ = &weights;
  decoder.max_rows_ = max_rows;
  Result<Buffer> hashes = Buffer::allocate(ledger, MemoryUse::kWorkspace,
                                           static_cast<uint64_t>(max_rows) * sizeof(uint64_t));
  if (!hashes) return forward_error(hashes);
  decoder.activations_ = std::move(*hashes);
  return decoder;
}

void Decoder::forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv,
                      const HiddenCapture*) const {
  DONAR_CHECK(batch.tokens.dim(0) <= max_rows_);
  test::put_into_stream(ex.cuda->stream,
                        [batch, layer = kv.layer(0), hashes = activations_.as<uint64_t>()] {
                          run_rows(batch, layer, hashes);
                        });
}

void Decoder::final_norm(Exec& ex, const ForwardBatch& batch, int64_t begin, int64_t count,
                         TensorView hidden) const {
  DONAR_CHECK(ops::is_activation(ex, hidden, count, config_->dim));
  const TensorView rows = batch.sample_rows.rows(begin, count);
  test::put_into_stream(ex.cuda->stream, [=, hashes = activations_.as<uint64_t>()] {
    for (int64_t i = 0; i < count; ++i)
      static_cast<uint64_t*>(hidden.data)[i] = hashes[rows.as<int32_t>()[i]];
  });
}

void Decoder::logits(Exec& ex, TensorView hidden, TensorView out) const {
  DONAR_CHECK(out.dim(0) <= head_rows(ex.device));
  test::put_into_stream(ex.cuda->stream, [=] {
    for (int64_t i = 0; i < out.dim(0); ++i)
      std::memcpy(out.row<float>(i), static_cast<const uint64_t*>(hidden.data) + i,
                  sizeof(uint64_t));
  });
}

uint64_t Decoder::workspace_bytes(DeviceType, const ModelConfig&, int64_t, int) { return 4096; }
uint64_t Decoder::activation_bytes(const Exec&, const ModelConfig&, const Weights&,
                                   int64_t max_rows) {
  return static_cast<uint64_t>(max_rows) * sizeof(uint64_t);
}
uint64_t Decoder::cos_sin_bytes(const ModelConfig&, int64_t) { return 0; }

std::vector<kv::KvLayerShape> Decoder::kv_layers(const ModelConfig& config, DType dtype) {
  return {{config.kv_heads, config.head_dim, 0, dtype}};
}

}  // namespace donar::model

namespace donar::ops::cuda {

using engine::test::kFakeEos;

namespace {

void sample_row(const SampleTokensParams& params, int i) {
  const SampleRow& row = params.rows[i];
  if (row.kind == SampleKind::kSkip) return;
  uint64_t hash = 0;
  std::memcpy(&hash, params.logits + int64_t{i} * params.vocab_size, sizeof(hash));
  int32_t token = row.target;
  if (row.kind == SampleKind::kDraw) {
    DONAR_CHECK(params.needs.draws || row.temperature == 0.0f, "a draw that nobody announced");
    DONAR_CHECK(params.needs.rules || (row.counts_slot < 0 && row.num_bans == 0 &&
                                       row.num_allowed == 0 && row.num_bias == 0),
                "rules that nobody announced");
    bool bans_eos = false;
    for (int32_t b = 0; b < row.num_bans; ++b)
      bans_eos |= params.bans[row.bans_begin + b].token == kFakeEos;
    int counted = -1;
    uint16_t* counts = params.token_counts + int64_t{row.counts_slot} * params.vocab_size;
    if (row.counts_slot >= 0) {
      counted = 0;  // outputs, and 1000 for every token of the prompt
      for (int t = 0; t < params.vocab_size; ++t)
        counted += (counts[t] & 0x7fff) + (counts[t] & 0x8000 ? 1000 : 0);
    }
    token =
        engine::test::simulated_token(row.temperature == 0.0f, row.seed, hash, bans_eos, counted);
    if (row.counts_slot >= 0) ++counts[token];
    params.last_tokens[row.slot] = token;
  }
  // A list's own entries say whose it is: the test puts the seed there.
  for (int32_t a = 0; a < row.num_allowed; ++a)
    DONAR_CHECK(params.allowed[row.allowed_begin + a] == static_cast<int32_t>(row.seed % 20) + a,
                "the allowed tokens of another row");
  for (int32_t b = 0; b < row.num_bias; ++b)
    DONAR_CHECK(params.bias[row.bias_begin + b].bias == static_cast<float>(row.seed % 100),
                "the biases of another row");
  params.ids[i] = token;
  if (row.num_logprobs < 0) return;
  DONAR_CHECK(params.needs.logprobs, "logprobs that nobody announced");
  SampleLogprobs& logprobs = params.logprobs[row.logprobs_index];
  logprobs = {};
  logprobs.token = token;
  logprobs.logprob = engine::test::simulated_logprob(hash);
  logprobs.rank = 1;
  logprobs.num_best = row.num_logprobs;
}

}  // namespace

void sample_tokens(const SampleTokensParams& params, const CudaExec& exec) {
  donar::test::put_into_stream(exec.stream, [params] {
    for (int i = 0; i < params.num_rows; ++i) sample_row(params, i);
  });
}

void add_token_counts(const TokenCountsParams& params, const CudaExec& exec) {
  donar::test::put_into_stream(exec.stream, [params] {
    for (int64_t i = 0; i < params.count; ++i) {
      uint16_t& count = params.counts[params.tokens[i]];
      count = params.is_output ? static_cast<uint16_t>(count + 1)
                               : static_cast<uint16_t>(count | 0x8000);
    }
  });
}

void scatter_ints(const ScatterIntsParams& params, const CudaExec& exec) {
  donar::test::put_into_stream(exec.stream, [params] {
    for (int64_t i = 0; i < params.count; ++i)
      params.table[params.entries[i].index] = params.entries[i].value;
  });
}

}  // namespace donar::ops::cuda
