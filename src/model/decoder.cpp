// The forward pass. Reads like the paper: embedding, then per layer norm, attention, norm,
// feed-forward; x is the residual stream, and delta what the last block adds to it, folded into the
// next norm.
#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "model/rope.h"
#include "ops/activation.h"
#include "ops/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/linear.h"
#include "ops/paged_attention.h"
#include "ops/qk_norm_rope_store.h"
#include "tensor/cuda.h"

namespace donar::model {
namespace {

constexpr uint64_t kAlignment = 1024;  // of k-tiled activations: whole swizzle atoms
constexpr uint64_t kArenaSlack = 16 * Arena::kAlignment;  // each op's takes are rounded up

int64_t qkv_dim(const ModelConfig& config) { return config.q_dim() + 2 * config.kv_dim(); }

// Host bytes into memory of the exec's device, before the first step.
void write(const Exec& ex, void* to, const void* from, uint64_t bytes) {
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      cuda_copy(to, from, bytes, ex.cuda->stream);
      cuda_wait(ex.cuda->stream);
      return;
    }
  }
  std::memcpy(to, from, bytes);
}

}  // namespace

Result<Decoder> Decoder::create(const Exec& ex, MemoryLedger& ledger, const ModelConfig& config,
                                const Weights& weights, int64_t max_rows, int64_t max_positions) {
  DONAR_CHECK(max_rows > 0 && max_positions > 0, "{} rows, {} positions", max_rows, max_positions);
  DONAR_CHECK(weights.layers.size() == config.layers.size());
  Decoder decoder;
  decoder.config_ = &config;
  decoder.weights_ = &weights;
  decoder.max_rows_ = max_rows;
  decoder.max_positions_ = max_positions;
  decoder.places_ = places(ex, config, weights, max_rows);
  Result<Buffer> activations = Buffer::allocate(ledger, MemoryUse::kWorkspace, decoder.places_.end);
  if (!activations) return forward_error(activations);
  decoder.activations_ = std::move(*activations);
  std::vector<int32_t> row_ids(static_cast<size_t>(max_rows));
  std::iota(row_ids.begin(), row_ids.end(), 0);
  write(ex, decoder.activations_.data() + decoder.places_.row_ids, row_ids.data(),
        row_ids.size() * sizeof(int32_t));

  Result<Buffer> cos_sin =
      Buffer::allocate(ledger, MemoryUse::kWorkspace, cos_sin_bytes(config, max_positions));
  if (!cos_sin) return forward_error(cos_sin);
  decoder.cos_sin_ = std::move(*cos_sin);
  if (Result<void> filled = decoder.fill_cos_sin_table(ex); !filled) return forward_error(filled);
  return decoder;
}

Result<void> Decoder::fill_cos_sin_table(const Exec& ex) {
  const int64_t half = config_->head_dim / 2;
  const std::vector<float> frequencies = inverse_frequencies(config_->rope, config_->head_dim);
  const float factor = attention_factor(config_->rope);
  std::vector<float> staging(ex.on_cuda() ? cos_sin_.size() / sizeof(float) : 0);
  float* table = ex.on_cuda() ? staging.data() : cos_sin_.as<float>();
  const auto fill = [&](int64_t begin, int64_t end) {
    for (int64_t position = begin; position < end; ++position) {
      float* cos = table + position * 2 * half;
      fill_cos_sin(frequencies, factor, position, cos, cos + half);
    }
  };
  if (ex.pool != nullptr)
    ex.pool->parallel_for(max_positions_, /*chunk=*/256, fill);
  else
    fill(0, max_positions_);
  if (ex.on_cuda()) write(ex, cos_sin_.data(), table, cos_sin_.size());
  return {};
}

void Decoder::forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv,
                      const HiddenCapture* capture) const {
  const int64_t rows = batch.tokens.dim(0);
  DONAR_CHECK(rows <= max_rows_, "{} rows, sized for {}", rows, max_rows_);
  const TensorView x = residual(rows);
  const TensorView h =
      ops::activation_view(ex, activations_.data() + places_.h, rows, config_->dim);

  ops::embedding(ex, batch.tokens, weights_->embedding, x, batch.previous);
  TensorView pending;  // nothing to add before the first block
  for (int i = 0; i < static_cast<int>(weights_->layers.size()); ++i) {
    const LayerWeights& layer = weights_->layers[static_cast<size_t>(i)];
    ops::add_rms_norm(ex, x, pending, layer.attn_norm, config_->rms_eps, h);
    keep(ex, i, x, capture);
    const TensorView attended = delta(ex, layer.attn_out, rows);
    attention(ex, i, h, batch, kv, attended);
    ops::add_rms_norm(ex, x, attended, layer.ffn_norm, config_->rms_eps, h);
    pending = delta(ex, layer.down, rows);
    feed_forward(ex, i, h, pending);
  }
}

void Decoder::attention(Exec& ex, int index, TensorView h, const ForwardBatch& batch,
                        const kv::KvStore& kv, TensorView delta) const {
  const LayerWeights& layer = weights_->layers[static_cast<size_t>(index)];
  const kv::KvLayer& cache = kv.layer(index);
  const int64_t rows = batch.tokens.dim(0);
  const ops::LinearOutput output = ops::linear_output(ex, layer.qkv, rows);
  const TensorView qkv(activations_.data() + places_.wide, output.dtype,
                       {output.parts, rows, qkv_dim(*config_)});
  const TensorView q = ex.on_cuda() ? TensorView(activations_.data() + places_.q, ex.activation,
                                                 {rows, config_->q_dim()})
                                    : qkv.part(0).columns(0, config_->q_dim());  // in place
  const TensorView out =
      ops::activation_view(ex, activations_.data() + places_.attention, rows, config_->q_dim());
  const TensorView cos_sin(cos_sin_.data(), DType::kF32,
                           {max_positions_, 2, config_->head_dim / 2});

  ops::read_ahead(ex, layer.attn_out, rows);
  ops::linear(ex, h, layer.qkv, qkv);
  ops::qk_norm_rope_store(ex, qkv, batch.positions, batch.slots, layer.q_norm, layer.k_norm,
                          config_->rms_eps, cos_sin, config_->q_heads, cache, q);
  ops::AttentionParams params;
  params.q_heads = config_->q_heads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(config_->head_dim));
  params.window = config_->layers[static_cast<size_t>(index)].window;
  ops::paged_attention(ex, q, batch.positions, batch.query_start, batch.block_tables,
                       batch.attention, cache, params, out);
  ops::read_ahead(ex, layer.gate_up, rows);
  ops::linear(ex, out, layer.attn_out, delta);
}

void Decoder::feed_forward(Exec& ex, int index, TensorView h, TensorView delta) const {
  const LayerWeights& layer = weights_->layers[static_cast<size_t>(index)];
  const int64_t rows = delta.dim(1);
  const TensorView gated =
      ops::activation_view(ex, activations_.data() + places_.wide, rows, config_->ffn_dim);
  ops::read_ahead(ex, layer.down, rows);
  ops::linear_silu_mul(ex, h, layer.gate_up, gated);
  const bool last = &layer == &weights_->layers.back();
  ops::read_ahead(ex, last ? weights_->head : (&layer + 1)->qkv, rows);
  ops::linear(ex, gated, layer.down, delta);
}

void Decoder::final_norm(Exec& ex, const ForwardBatch& batch, int64_t begin, int64_t count,
                         TensorView hidden) const {
  const int64_t rows = batch.tokens.dim(0);
  ops::add_rms_norm(ex, residual(rows), delta(ex, weights_->layers.back().down, rows),
                    weights_->final_norm, config_->rms_eps, hidden,
                    batch.sample_rows.rows(begin, count));
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
  DONAR_CHECK(out.dim(0) <= head_rows(ex.device), "{} rows, at most {} at a time", out.dim(0),
              head_rows(ex.device));
  ops::read_ahead(ex, weights_->layers.front().qkv, out.dim(0));  // of the next step
  ops::linear(ex, hidden, weights_->head, out);
}

TensorView Decoder::residual(int64_t rows) const {
  return {activations_.data() + places_.x, DType::kF32, {rows, config_->dim}};
}

TensorView Decoder::delta(const Exec& ex, const quant::LinearGroup& group, int64_t rows) const {
  const ops::LinearOutput output = ops::linear_output(ex, group, rows);
  return {activations_.data() + places_.delta, output.dtype, {output.parts, rows, config_->dim}};
}

Decoder::Places Decoder::places(const Exec& ex, const ModelConfig& config, const Weights& weights,
                                int64_t max_rows) {
  Places places;
  uint64_t end = 0;
  const auto reserve = [&](int64_t bytes) {
    const uint64_t begin = end;
    end = (end + static_cast<uint64_t>(bytes) + kAlignment - 1) & ~(kAlignment - 1);
    return begin;
  };
  const auto activation = [&](int64_t k) { return ops::activation_bytes(ex.device, max_rows, k); };
  // Found by trying every number of rows: once, since layers are of the same shapes.
  std::map<std::pair<int64_t, int64_t>, int64_t> known;
  const auto output = [&](const quant::LinearGroup& group) {
    const auto [found, is_new] = known.try_emplace({group.n(), group.k()});
    if (is_new) found->second = ops::linear_output_bytes(ex, group, max_rows);
    return found->second;
  };
  int64_t delta_bytes = 0, qkv_bytes = 0;
  for (const LayerWeights& layer : weights.layers) {
    delta_bytes = std::max({delta_bytes, output(layer.attn_out), output(layer.down)});
    qkv_bytes = std::max(qkv_bytes, output(layer.qkv));
  }
  places.x = reserve(max_rows * config.dim * static_cast<int64_t>(sizeof(float)));
  places.h = reserve(activation(config.dim));
  places.delta = reserve(delta_bytes);
  places.row_ids = reserve(max_rows * static_cast<int64_t>(sizeof(int32_t)));
  // wide: the feed-forward block uses all of it again.
  places.wide = reserve(qkv_bytes);
  places.q = ex.on_cuda() ? reserve(max_rows * config.q_dim() * 2) : places.wide;
  places.attention = reserve(activation(config.q_dim()));
  end = std::max(end, places.wide + static_cast<uint64_t>(activation(config.ffn_dim)));
  places.end = (end + kAlignment - 1) & ~(kAlignment - 1);
  return places;
}

uint64_t Decoder::activation_bytes(const Exec& ex, const ModelConfig& config,
                                   const Weights& weights, int64_t max_rows) {
  return places(ex, config, weights, max_rows).end;
}

uint64_t Decoder::cos_sin_bytes(const ModelConfig& config, int64_t max_positions) {
  return static_cast<uint64_t>(max_positions * config.head_dim) * sizeof(float);
}

uint64_t Decoder::workspace_bytes(DeviceType device, const ModelConfig& config, int64_t max_rows,
                                  int num_threads) {
  if (device == DeviceType::kCuda) return kArenaSlack;  // its ops keep their scratch elsewhere
  const int64_t longest = std::max({config.dim, config.q_dim(), config.ffn_dim});
  const uint64_t picked = 2 * static_cast<uint64_t>(max_rows * config.dim) * sizeof(float);
  return kArenaSlack +
         std::max(
             {ops::linear_workspace_bytes(device, max_rows, longest), picked,
              ops::linear_silu_mul_workspace_bytes(device, max_rows, config.dim, config.ffn_dim),
              ops::paged_attention_workspace_bytes(num_threads, config.q_heads, config.head_dim)});
}

std::vector<kv::KvLayerShape> Decoder::kv_layers(const ModelConfig& config, DType dtype) {
  std::vector<kv::KvLayerShape> shapes;
  for (const LayerConfig& layer : config.layers)
    shapes.push_back({config.kv_heads, config.head_dim, layer.window, dtype});
  return shapes;
}

}  // namespace donar::model
