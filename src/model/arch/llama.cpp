// Llama and what shares its math: Llama 2 and 3.x, SmolLM2, and Mistral with a sliding window in
// every layer.
#include <limits>

#include "model/arch/family.h"

namespace donar::model::arch {
namespace {

void window_in_every_layer(Keys& keys, std::string_view key, int64_t window, ModelConfig& config) {
  if (window < 1 || window > std::numeric_limits<int>::max())
    keys.fail_with(ErrorCode::kDataLoss, "{}: expected 1 or more, found {}", key, window);
  for (LayerConfig& layer : config.layers) layer.window = static_cast<int>(window);
}

}  // namespace

void llama_from_json(JsonKeys& keys, ModelConfig& config) {
  read_common(keys, {}, config);
  config.qkv_bias = config.out_bias = keys.boolean("attention_bias").value_or(false);
  config.mlp_bias = keys.boolean("mlp_bias").value_or(false);
}

void mistral_from_json(JsonKeys& keys, ModelConfig& config) {
  read_common(keys, {.kv_heads = 8, .max_position = 131072}, config);
  const bool stated = keys.present("sliding_window");  // null: none; absent: the class default
  const std::optional<int64_t> window = stated ? keys.integer("sliding_window") : 4096;
  if (window) window_in_every_layer(keys, "sliding_window", *window, config);
}

void llama_from_gguf(GgufKeys& keys, ModelConfig& config) {
  read_common(keys, config);
  config.permuted_qk = true;
  const int64_t window = keys.integer(".attention.sliding_window").value_or(0);
  if (window != 0) window_in_every_layer(keys, "attention.sliding_window", window, config);
}

}  // namespace donar::model::arch
