// The transformer: embedding, layers, final norm, head. Const after construction; no allocation in
// forward.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/kv_store.h"
#include "model/forward_batch.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "tensor/exec.h"

namespace donar::model {

// Residual stream kept on the way: what draft heads (EAGLE3) read, and tests compare. A caller that
// wants none passes nullptr.
struct HiddenCapture {
  std::vector<int> layers;  // i: the stream as it enters layer i, 0 = the embedding
  TensorView out;  // [rows, layers.size() * dim] f32, out: side by side, in the order of `layers`
};

class Decoder {
 public:
  // `config` and `weights` must outlive the decoder. Allocates in the ledger, which is that of the
  // exec's device. max_rows: the largest number of rows in one step; max_positions: rows of the
  // cos/sin table.
  static Result<Decoder> create(const Exec& ex, MemoryLedger& ledger, const ModelConfig& config,
                                const Weights& weights, int64_t max_rows, int64_t max_positions);

  // Runs every layer and writes k and v into `kv`. The residual stream stays in the decoder for
  // final_norm. Engine thread only (it uses the decoder's activations).
  void forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv,
               const HiddenCapture* capture = nullptr) const;

  // The final norm of rows batch.sample_rows[begin, begin + count) of the batch that ran last.
  void final_norm(Exec& ex, const ForwardBatch& batch, int64_t begin, int64_t count,
                  TensorView hidden) const;  // activation of [count, dim], out

  // The head runs in slices of so many rows, so that logits are never [tokens, vocab].
  static int64_t head_rows(DeviceType device) { return device == DeviceType::kCuda ? 256 : 64; }
  void logits(Exec& ex, TensorView hidden,  // activation of [rows <= head_rows, dim]
              TensorView out) const;        // [rows, vocab_size] f32, out

  const ModelConfig& config() const { return *config_; }

  // Scratch that the functions above take from ex.arena.
  static uint64_t workspace_bytes(DeviceType device, const ModelConfig& config, int64_t max_rows,
                                  int num_threads);
  // What create allocates.
  static uint64_t activation_bytes(const Exec& ex, const ModelConfig& config,
                                   const Weights& weights, int64_t max_rows);
  static uint64_t cos_sin_bytes(const ModelConfig& config, int64_t max_positions);
  // What a KvStore for this model is made of.
  static std::vector<kv::KvLayerShape> kv_layers(const ModelConfig& config, DType dtype);

 private:
  Decoder() = default;
  void attention(Exec& ex, int layer, TensorView h, const ForwardBatch& batch,
                 const kv::KvStore& kv, TensorView delta) const;
  void feed_forward(Exec& ex, int layer, TensorView h, TensorView delta) const;
  void keep(Exec& ex, int layer, TensorView x, const HiddenCapture* capture) const;
  Result<void> fill_cos_sin_table(const Exec& ex);

  TensorView residual(int64_t rows) const;  // [rows, dim] f32
  // Where a linear writes that adds to the residual stream: [parts, rows, dim].
  TensorView delta(const Exec& ex, const quant::LinearGroup& group, int64_t rows) const;

  // Byte offsets in activations_. `wide` is used by one block at a time: q/k/v with the rotated q
  // and the attention output behind, then the gated activation.
  struct Places {
    uint64_t x = 0, h = 0, delta = 0, wide = 0, q = 0, attention = 0, row_ids = 0, end = 0;
  };
  static Places places(const Exec& ex, const ModelConfig& config, const Weights& weights,
                       int64_t max_rows);

  const ModelConfig* config_ = nullptr;
  const Weights* weights_ = nullptr;
  Buffer activations_;
  Places places_;
  Buffer cos_sin_;  // [max_positions, 2, head_dim / 2] f32
  int64_t max_rows_ = 0;
  int64_t max_positions_ = 0;
};

}  // namespace donar::model
