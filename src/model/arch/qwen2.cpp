// Qwen2 and Qwen2.5: Llama with biases on q, k and v; windows by layer where the config turns them
// on.
#include "model/arch/family.h"

namespace donar::model::arch {

void qwen2_from_json(JsonKeys& keys, ModelConfig& config) {
  read_common(keys, {.kv_heads = 32, .max_position = 32768}, config);
  config.qkv_bias = true;
  read_windows_by_layer(keys, config);
}

void qwen2_from_gguf(GgufKeys& keys, ModelConfig& config) {
  read_common(keys, config);
  config.qkv_bias = true;
}

}  // namespace donar::model::arch
