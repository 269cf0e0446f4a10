// The packed weights of a model, on the device. Layers are plain structs; every view points into
// buffers that Weights owns.
#pragma once

#include <vector>

#include "quant/linear_weight.h"
#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace donar::model {

struct LayerWeights {
  TensorView attn_norm;         // [dim] f32
  TensorView ffn_norm;          // [dim] f32
  TensorView q_norm, k_norm;    // [head_dim] f32; data == nullptr: none
  quant::LinearGroup qkv;       // q [q_dim, dim], k and v [kv_dim, dim]
  quant::LinearGroup attn_out;  // [dim, q_dim]
  quant::LinearGroup gate_up;   // gate and up [ffn_dim, dim]
  quant::LinearGroup down;      // [dim, ffn_dim]
};

struct Weights {
  quant::LinearWeight embedding;  // [vocab, dim]
  quant::LinearGroup head;        // [vocab, dim]; the embedding itself if tied
  TensorView final_norm;          // [dim] f32
  std::vector<LayerWeights> layers;
  std::vector<Buffer> buffers;  // owns all of the above
  uint64_t bytes = 0;           // packed bytes in total
};

}  // namespace donar::model
