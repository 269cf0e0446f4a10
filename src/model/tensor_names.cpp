// Tensor names of Hugging Face checkpoints and of GGUF files.
#include "model/tensor_names.h"

namespace donar::model {

TensorNames tensor_names(Checkpoint::Container container) {
  if (container == Checkpoint::Container::kGguf)
    return {"token_embd", "output_norm", "output", container};
  return {"model.embed_tokens", "model.norm", "lm_head", container};
}

LayerNames TensorNames::layer(int index) const {
  if (container == Checkpoint::Container::kGguf) {
    const std::string p = fmt::format("blk.{}.", index);
    return {p + "attn_norm", p + "ffn_norm",    p + "attn_q",      p + "attn_k",
            p + "attn_v",    p + "attn_output", p + "attn_q_norm", p + "attn_k_norm",
            p + "ffn_gate",  p + "ffn_up",      p + "ffn_down"};
  }
  const std::string p = fmt::format("model.layers.{}.", index);
  return {p + "input_layernorm",  p + "post_attention_layernorm",
          p + "self_attn.q_proj", p + "self_attn.k_proj",
          p + "self_attn.v_proj", p + "self_attn.o_proj",
          p + "self_attn.q_norm", p + "self_attn.k_norm",
          p + "mlp.gate_proj",    p + "mlp.up_proj",
          p + "mlp.down_proj"};
}

}  // namespace donar::model
