// The transformer: embedding, layers, final norm, head. Const after construction; no allocation in forward.
#pragma once

#include <cstdint>

#include "kv/kv_store.h"
#include "model/forward_batch.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "tensor/exec.h"

namespace donar::model {

class Decoder {
 public:
  // `weights` must outlive the decoder. max_rows: the largest number of rows in one step; max_positions: rows of the cos/sin table.
  static Result<Decoder> create(MemoryLedger& ledger, const ModelConfig& config, const Weights& weights, int64_t max_rows,
                                int64_t max_positions);

  // Runs every layer, writes k and v into `kv`, and leaves the final-norm hidden states of batch.sample_rows in `hidden`.
  // Engine thread only (it uses the decoder's activations).
  void forward(Exec& ex, const ForwardBatch& batch, const kv::KvStore& kv,
               TensorView hidden) const;  // [samples, dim] f32, out

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
  void attention(Exec& ex, int layer, TensorView h, const ForwardBatch& batch, const kv::KvStore& kv, TensorView delta) const;
  void feed_forward(Exec& ex, int layer, TensorView h, TensorView delta) const;

  const ModelConfig* config_ = nullptr;
  const Weights* weights_ = nullptr;
  Buffer activations_;  // x, h, delta, qkv, attention, gate_up for max_rows rows
  Buffer cos_sin_;      // [max_positions, 2, head_dim / 2] f32
  int64_t max_rows_ = 0;
  int64_t max_positions_ = 0;
};

}  // namespace donar::model
