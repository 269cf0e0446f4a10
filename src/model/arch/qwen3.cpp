// Qwen3 dense: q and k are normalised per head, head_dim is explicit, no biases.
#include "model/arch/family.h"

namespace donar::model::arch {

void qwen3_from_json(JsonKeys& keys, ModelConfig& config) {
  read_common(keys, {.kv_heads = 32, .head_dim = 128, .max_position = 32768}, config);
  config.qkv_bias = config.out_bias = keys.boolean("attention_bias").value_or(false);
  config.qk_norm = true;
  read_windows_by_layer(keys, config);
}

void qwen3_from_gguf(GgufKeys& keys, ModelConfig& config) {
  read_common(keys, config);
  config.qk_norm = true;
}

}  // namespace donar::model::arch
