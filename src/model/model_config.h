// A model as data: what Decoder needs to know, filled by a family file of model/arch from
// config.json or GGUF metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace donar::model {

enum class RopeType : uint8_t { kDefault, kLinear, kLlama3, kYarn };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // yarn
  double beta_slow = 1.0;         // yarn
  double attention_factor = 0.0;  // yarn; 0: from the factor
  double mscale = 0.0;            // yarn; 0: not given
  double mscale_all_dim = 0.0;    // yarn; 0: not given
  bool truncate = true;           // yarn: floor and ceil the correction range
  int64_t original_max_position = 0;
  std::vector<float> frequency_divisors;  // GGUF rope_freqs.weight [head_dim / 2]; empty: none.
                                          // Overrides llama3 scaling
};

struct LayerConfig {
  int window = 0;  // keys visible to a query, itself included; 0: all
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM": as the checkpoint names it
  int64_t vocab_size = 0;    // rows of the embedding table
  int64_t dim = 0;           // width of the residual stream
  int64_t ffn_dim = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float rms_eps = 1e-6f;
  int64_t max_position = 0;  // longest context that the checkpoint claims
  bool qkv_bias = false;
  bool out_bias = false;  // bias on the attention output projection
  bool mlp_bias = false;
  bool qk_norm = false;    // RMSNorm per head on q and k before the rotation
  bool tied_head = false;  // lm_head is the embedding table
  bool permuted_qk =
      false;  // GGUF architecture "llama": q/k rows are in interleaved order, undone when packing
  RopeConfig rope;
  std::vector<LayerConfig> layers;
  int32_t bos_token = -1;           // -1: none
  std::vector<int32_t> eos_tokens;  // config.json and generation_config.json together

  int64_t q_dim() const { return int64_t{q_heads} * head_dim; }
  int64_t kv_dim() const { return int64_t{kv_heads} * head_dim; }
};

}  // namespace donar::model
