// The forward pass. Reads like the paper: embedding, then per layer norm, attention, norm,
// feed-forward; x is the residual stream, and delta what the last block adds to it, folded into the
// next norm.
#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/rope.h"
#include "ops/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/linear.h"
#include "ops/paged_attention.h"
#include "ops/qk_norm_rope_store.h"
#include "ops/silu_mul.h"

namespace donar::model {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kArenaSlack = 16 * kAlignment;  // each op's takes are rounded up

int64_t qkv_dim(const ModelConfig& config) { return config.q_dim() + 2 * config.kv_dim(); }

}  // namespace

Result<Decoder> Decoder::create(MemoryLedger& ledger, const ModelConfig& config,
                                const Weights& weights, int64_t max_rows, int64_t max_positions) {
  DONAR_CHECK(max_rows > 0 && max_positions > 0, "{} rows, {} positions", max_rows, max_positions);
  DONAR_CHECK(weights.layers.size() == config.layers.size());
  Decoder decoder;
  decoder.config_ = &config;
  decoder.weights_ = &weights;
  decoder.max_rows_ = max_rows;
  decoder.max_positions_ = max_positions;
  decoder.places_ = places(config, max_rows);
  Result<Buffer> activations = Buffer::allocate(ledger, MemoryUse::kWorkspace, decoder.places_.end);
  if (!activations) return forward_error(activations);
  decoder.activations_ = std::move(*activations);
  auto* row_ids = reinterpret_cast<int32_t*>(decoder.activations_.data() + decoder.places_.row_ids);
  for (int64_t i = 0; i < max_rows; ++i) row_ids[i] = static_cast<int32_t>(i);

  const int64_t half = config.head_dim / 2;
  Result<Buffer> cos_sin =
      Buffer::allocate(ledger, MemoryUse::kWorkspace,
                       static_cast<uint64_t>(max_positions * 2 * half) * sizeof(float));
  if (!cos_sin) return forward_error(cos_sin);
  decoder.cos_sin_ = std::move(*cos_sin);
  const std::vector<float> frequencies = inverse_frequencies(config.rope, config.head_dim);
  const float factor = attention_factor(config.rope);
  for (int64_t position = 0; position < max_positions; ++position) {
    float* cos = decoder.cos_sin_.as<float>() + position * 2 * half;
    fill_cos_sin(frequencies, factor, position, cos, cos + half);
  }
  return decoder;
}

void Decoder::forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv, TensorView hidden,
                      const HiddenCapture* capture) const {
  const int64_t rows = batch.tokens.dim(0);
  DONAR_CHECK(rows <= max_rows_, "{} rows, sized for {}", rows, max_rows_);
  const TensorView x = activation(places_.x, rows, config_->dim);
  const TensorView h = activation(places_.h, rows, config_->dim);
  const TensorView delta = activation(places_.delta, rows, config_->dim);

  ops::embedding(ex, batch.tokens, weights_->embedding, x);
  TensorView pending;  // nothing to add before the first block
  for (int i = 0; i < static_cast<int>(weights_->layers.size()); ++i) {
    const LayerWeights& layer = weights_->layers[static_cast<size_t>(i)];
    ops::add_rms_norm(ex, x, pending, layer.attn_norm, config_->rms_eps, h);
    keep(ex, i, x, capture);
    attention(ex, i, h, batch, kv, delta);
    ops::add_rms_norm(ex, x, delta, layer.ffn_norm, config_->rms_eps, h);
    feed_forward(ex, i, h, delta);
    pending = delta;
  }
  sampled(ex, x, delta, batch.sample_rows, hidden);
}

void Decoder::attention(Exec& ex, int index, TensorView h, const ForwardBatch& batch,
                        const kv::KvStore& kv, TensorView delta) const {
  const LayerWeights& layer = weights_->layers[static_cast<size_t>(index)];
  const kv::KvLayer& cache = kv.layer(index);
  const TensorView qkv = activation(places_.wide, h.dim(0), qkv_dim(*config_));
  const TensorView out = activation(places_.attention, h.dim(0), config_->q_dim());
  const TensorView cos_sin(cos_sin_.data(), DType::kF32,
                           {max_positions_, 2, config_->head_dim / 2});

  ops::linear(ex, h, layer.qkv, qkv);
  ops::qk_norm_rope_store(ex, qkv, batch.positions, batch.slots, layer.q_norm, layer.k_norm,
                          config_->rms_eps, cos_sin, config_->q_heads, cache);
  ops::AttentionParams params;
  params.q_heads = config_->q_heads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(config_->head_dim));
  params.window = config_->layers[static_cast<size_t>(index)].window;
  ops::paged_attention(ex, qkv, batch.positions, batch.query_start, batch.block_tables, cache,
                       params, out);
  ops::linear(ex, out, layer.attn_out, delta);
}

void Decoder::feed_forward(Exec& ex, int index, TensorView h, TensorView delta) const {
  const LayerWeights& layer = weights_->layers[static_cast<size_t>(index)];
  const TensorView gate_up = activation(places_.wide, h.dim(0), 2 * config_->ffn_dim);
  const TensorView gated = gate_up.columns(0, config_->ffn_dim);  // in place of the gate
  ops::linear(ex, h, layer.gate_up, gate_up);
  ops::silu_mul(ex, gate_up, gated);
  ops::linear(ex, gated, layer.down, delta);
}

// The final norm, of the rows that are sampled from alone.
void Decoder::sampled(Exec& ex, TensorView x, TensorView delta, TensorView sample_rows,
                      TensorView hidden) const {
  const int64_t count = sample_rows.dim(0);
  if (count == 0) return;
  DONAR_CHECK(count <= max_rows_ && hidden.dim(0) == count, "{} samples into {} rows", count,
              hidden.dim(0));
  const TensorView picked_x = activation(places_.h, count, config_->dim);
  const TensorView picked_delta = activation(places_.wide, count, config_->dim);
  ops::gather_rows(ex, x, sample_rows, picked_x);
  ops::gather_rows(ex, delta, sample_rows, picked_delta);
  ops::add_rms_norm(ex, picked_x, picked_delta, weights_->final_norm, config_->rms_eps, hidden);
}

void Decoder::keep(Exec& ex, int layer, TensorView x, const HiddenCapture* capture) const {
  if (!capture) return;
  const TensorView all_rows(activations_.data() + places_.row_ids, DType::kI32, {x.dim(0)});
  for (size_t i = 0; i < capture->layers.size(); ++i)
    if (capture->layers[i] == layer)
      ops::gather_rows(ex, x, all_rows,
                       capture->out.columns(static_cast<int64_t>(i) * config_->dim, config_->dim));
}

void Decoder::logits(Exec& ex, TensorView hidden, TensorView out) const {
  DONAR_CHECK(hidden.dim(0) <= kHeadRows, "{} rows, at most {} at a time", hidden.dim(0),
              kHeadRows);
  ops::linear(ex, hidden, weights_->head, out);
}

TensorView Decoder::activation(uint64_t offset, int64_t rows, int64_t columns) const {
  return {activations_.data() + offset, DType::kF32, {rows, columns}};
}

Decoder::Places Decoder::places(const ModelConfig& config, int64_t max_rows) {
  Places places;
  uint64_t end = 0;
  const auto reserve = [&](int64_t columns) {
    const uint64_t begin = end;
    end += static_cast<uint64_t>(max_rows * columns) * sizeof(float);
    end = (end + kAlignment - 1) & ~(kAlignment - 1);
    return begin;
  };
  places.x = reserve(config.dim);
  places.h = reserve(config.dim);
  places.delta = reserve(config.dim);
  places.row_ids = reserve(1);
  // wide, with the attention output behind q/k/v; the feed-forward block uses all of it again.
  places.wide = reserve(std::max(qkv_dim(config), config.dim));
  places.attention = reserve(config.q_dim());
  end = std::max(
      end, places.wide + static_cast<uint64_t>(max_rows * 2 * config.ffn_dim) * sizeof(float));
  places.end = end;
  return places;
}

uint64_t Decoder::workspace_bytes(const ModelConfig& config, int64_t max_rows, int num_threads) {
  const int64_t longest = std::max({config.dim, config.q_dim(), config.ffn_dim});
  return kArenaSlack + std::max({ops::linear_workspace_bytes(max_rows, longest),
                                 ops::linear_workspace_bytes(kHeadRows, config.dim),
                                 ops::paged_attention_workspace_bytes(num_threads, config.q_heads,
                                                                      config.head_dim)});
}

std::vector<kv::KvLayerShape> Decoder::kv_layers(const ModelConfig& config, DType dtype) {
  std::vector<kv::KvLayerShape> shapes;
  for (const LayerConfig& layer : config.layers)
    shapes.push_back({config.kv_heads, config.head_dim, layer.window, dtype});
  return shapes;
}

}  // namespace donar::model
