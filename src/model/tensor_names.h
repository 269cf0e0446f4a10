// What the two containers call a model's tensors. All families of one container share the names.
#pragma once

#include <string>

#include "model/checkpoint.h"

namespace donar::model {

// Names without a suffix: a matrix adds ".weight" and ".bias".
struct LayerNames {
  std::string attn_norm, ffn_norm;
  std::string q, k, v, attn_out;
  std::string q_norm, k_norm;
  std::string gate, up, down;
};

struct TensorNames {
  std::string embedding, final_norm, head;
  LayerNames layer(int index) const;

  Checkpoint::Container container = Checkpoint::Container::kSafetensors;
};

TensorNames tensor_names(Checkpoint::Container container);

}  // namespace donar::model
