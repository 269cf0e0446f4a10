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
  // `config` and `weights` must outlive the decoder. max_rows: the largest number of rows in one
  // step; max_positions: rows of the cos/sin table.
  static Result<Decoder> create(MemoryLedger& ledger, const ModelConfig& config,
                                const Weights& weights, int64_t max_rows, int64_t max_positions);

  // Runs every layer, writes k and v into `kv`, and leaves the final-norm hidden states of
  // batch.sample_rows in `hidden`. Engine thread only (it uses the decoder's activations).
  void forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv,
               TensorView hidden,  // [samples, dim] f32, out
               const HiddenCapture* capture = nullptr) const;

  // Logits of at most kHeadRows hidden states.
  static constexpr int64_t kHeadRows = 64;
  void logits(Exec& ex, TensorView hidden,  // [rows <= kHeadRows, dim] f32
              TensorView out) const;        // [rows, vocab_size] f32, out

  const ModelConfig& config() const { return *config_; }

  // Scratch that forward and logits take from ex.arena.
  static uint64_t workspace_bytes(const ModelConfig& config, int64_t max_rows, int num_threads);
  // What a KvStore for this model is made of.
  static std::vector<kv::KvLayerShape> kv_layers(const ModelConfig& config, DType dtype);

 private:
  Decoder() = default;
  void attention(Exec& ex, int layer, TensorView h, const ForwardBatch& batch,
                 const kv::KvStore& kv, TensorView delta) const;
  void feed_forward(Exec& ex, int layer, TensorView h, TensorView delta) const;
  void sampled(Exec& ex, TensorView x, TensorView delta, TensorView sample_rows,
               TensorView hidden) const;
  void keep(Exec& ex, int layer, TensorView x, const HiddenCapture* capture) const;

  const ModelConfig* config_ = nullptr;
  const Weights* weights_ = nullptr;
  // A matrix of the activation buffer: its first `rows` rows of `columns` values.
  TensorView activation(uint64_t offset, int64_t rows, int64_t columns) const;
  // Byte offsets in activations_. `wide` is used by one block at a time: q/k/v and the attention
  // output beside them, gate and up.
  struct Places {
    uint64_t x = 0, h = 0, delta = 0, wide = 0, attention = 0, row_ids = 0, end = 0;
  };
  static Places places(const ModelConfig& config, int64_t max_rows);

  Buffer activations_;
  Places places_;
  Buffer cos_sin_;  // [max_positions, 2, head_dim / 2] f32
  int64_t max_rows_ = 0;
  int64_t max_positions_ = 0;
};

}  // namespace donar::model
