// A model family as a row: the names by which checkpoints call it and the two functions that fill a
// ModelConfig from them. A new family is one small file with these functions and one row in
// registry.cpp.
#pragma once

#include <string_view>

#include "model/arch/keys.h"
#include "model/model_config.h"

namespace donar::model::arch {

struct Family {
  std::string_view architecture;       // architectures[0] of config.json
  std::string_view model_type;         // config.json, where architectures is absent
  std::string_view gguf_architecture;  // general.architecture; empty: shares another family's
  void (*from_json)(JsonKeys& keys, ModelConfig& config);  // nullptr: known but refused
  void (*from_gguf)(GgufKeys& keys, ModelConfig& config);
  std::string_view refused;  // what such a model needs that is not there yet
};

// registry.cpp. The result is complete and validated: sizes fit together, and nothing in it can
// overflow later.
Result<ModelConfig> config_from_json(const json::object& config, const std::string& source);
Result<ModelConfig> config_from_gguf(const Checkpoint& checkpoint);
// Adds eos_token_id (a number or a list) of generation_config.json; config.json's own is in
// already.
void add_eos_tokens(const json::object& object, ModelConfig& config);

// What a key means when config.json does not have it (the class defaults of
// huggingface/transformers).
struct JsonDefaults {
  int kv_heads = 0;  // 0: as many as query heads
  int head_dim = 0;  // 0: hidden_size / heads
  double rms_eps = 1e-6;
  double rope_theta = 1e4;
  int64_t max_position = 2048;
};

// common.cpp: what all families share, the rotary embedding included. Layers are made, without
// windows.
void read_common(JsonKeys& keys, const JsonDefaults& defaults, ModelConfig& config);
void read_common(GgufKeys& keys, ModelConfig& config);

// rope_keys.cpp
void read_rope(JsonKeys& keys, double default_theta, ModelConfig& config);
void read_rope(GgufKeys& keys, ModelConfig& config);

// common.cpp: for the families whose layers are windowed or full by index (Qwen2, Qwen3).
void read_windows_by_layer(JsonKeys& keys, ModelConfig& config);

// The families.
void llama_from_json(JsonKeys& keys, ModelConfig& config);
void llama_from_gguf(GgufKeys& keys, ModelConfig& config);
void mistral_from_json(JsonKeys& keys, ModelConfig& config);
void qwen2_from_json(JsonKeys& keys, ModelConfig& config);
void qwen2_from_gguf(GgufKeys& keys, ModelConfig& config);
void qwen3_from_json(JsonKeys& keys, ModelConfig& config);
void qwen3_from_gguf(GgufKeys& keys, ModelConfig& config);

}  // namespace donar::model::arch
