// The keys that all families share, and the checks that make every later size computation safe:
// whatever a hostile config says, it ends here with one message.
#include <cmath>
#include <limits>

#include "model/arch/family.h"

namespace donar::model::arch {
namespace {

constexpr int64_t kMaxDim = int64_t{1} << 20;
constexpr int64_t kMaxFfnDim = int64_t{1} << 22;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 16384;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxPosition = int64_t{1} << 30;

// Sizes as read, each with the name of its key for messages.
struct Size {
  std::string_view key;
  int64_t value = 0;
};
struct Shape {
  Size dim, ffn_dim, layers, q_heads, kv_heads, head_dim, vocab, max_position;
};

int64_t checked(Keys& keys, const Size& size, int64_t limit) {
  if (size.value >= 1 && size.value <= limit) return size.value;
  keys.fail_with(ErrorCode::kDataLoss, "{}: expected 1 to {}, found {}", size.key, limit,
                 size.value);
  return 1;
}

void apply_shape(Keys& keys, const Shape& shape, ModelConfig& config) {
  if (keys.failed()) return;
  config.dim = checked(keys, shape.dim, kMaxDim);
  config.ffn_dim = checked(keys, shape.ffn_dim, kMaxFfnDim);
  config.q_heads = static_cast<int>(checked(keys, shape.q_heads, kMaxHeads));
  config.kv_heads = static_cast<int>(checked(keys, shape.kv_heads, kMaxHeads));
  config.vocab_size = checked(keys, shape.vocab, kMaxVocab);
  config.max_position = checked(keys, shape.max_position, kMaxPosition);
  config.layers.resize(static_cast<size_t>(checked(keys, shape.layers, kMaxLayers)));
  if (keys.failed()) return;
  if (config.q_heads % config.kv_heads != 0)
    keys.fail_with(ErrorCode::kDataLoss, "{} ({}) must be a multiple of {} ({})", shape.q_heads.key,
                   config.q_heads, shape.kv_heads.key, config.kv_heads);
  Size head_dim = shape.head_dim;
  if (head_dim.value == 0) {  // absent: the width is divided among the heads
    if (config.dim % config.q_heads != 0)
      keys.fail_with(ErrorCode::kDataLoss,
                     "{} ({}) must be a multiple of {} ({}) where {} is absent", shape.dim.key,
                     config.dim, shape.q_heads.key, config.q_heads, head_dim.key);
    head_dim.value = config.dim / config.q_heads;
  }
  config.head_dim = static_cast<int>(checked(keys, head_dim, kMaxHeadDim));
  if (config.head_dim % 2 != 0)
    keys.fail_with(ErrorCode::kDataLoss, "{}: expected an even number, found {}", head_dim.key,
                   config.head_dim);
  if (config.q_dim() > kMaxDim)
    keys.fail_with(ErrorCode::kDataLoss, "{} x {}: expected at most {}, found {} x {}",
                   shape.q_heads.key, head_dim.key, kMaxDim, config.q_heads, config.head_dim);
}

void apply_eps(Keys& keys, std::string_view key, double eps, ModelConfig& config) {
  if (!(eps > 0.0 && eps < 1.0))
    keys.fail_with(ErrorCode::kDataLoss, "{}: expected a number between 0 and 1, found {}", key,
                   eps);
  config.rms_eps = static_cast<float>(eps);
}

int32_t token_id(std::optional<int64_t> id, const ModelConfig& config) {
  return id && *id >= 0 && *id < config.vocab_size ? static_cast<int32_t>(*id) : -1;
}

// An absent head_dim stands as 0 in Shape; a stated 0 is an error and must not look absent.
int64_t stated(std::optional<int64_t> value, int64_t otherwise) {
  if (!value) return otherwise;
  return *value == 0 ? -1 : *value;
}

}  // namespace

void read_common(JsonKeys& keys, const JsonDefaults& defaults, ModelConfig& config) {
  Shape shape;
  shape.dim = {"hidden_size", keys.required_integer("hidden_size")};
  shape.ffn_dim = {"intermediate_size", keys.required_integer("intermediate_size")};
  shape.layers = {"num_hidden_layers", keys.required_integer("num_hidden_layers")};
  shape.q_heads = {"num_attention_heads", keys.required_integer("num_attention_heads")};
  shape.kv_heads = {"num_key_value_heads",
                    keys.integer("num_key_value_heads")
                        .value_or(defaults.kv_heads > 0 ? defaults.kv_heads : shape.q_heads.value)};
  shape.head_dim = {"head_dim", stated(keys.integer("head_dim"), defaults.head_dim)};
  shape.vocab = {"vocab_size", keys.required_integer("vocab_size")};
  shape.max_position = {"max_position_embeddings",
                        keys.integer("max_position_embeddings").value_or(defaults.max_position)};
  apply_shape(keys, shape, config);
  apply_eps(keys, "rms_norm_eps", keys.number("rms_norm_eps").value_or(defaults.rms_eps), config);
  config.tied_head = keys.boolean("tie_word_embeddings").value_or(false);
  config.bos_token = -1;
  if (const json::value* bos = keys.find("bos_token_id"); bos && bos->is_int64())
    config.bos_token = token_id(bos->get_int64(), config);
  const std::string activation = keys.text("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish")
    keys.fail_with(ErrorCode::kUnsupported,
                   "hidden_act \"{}\" is not supported yet: expected \"silu\"", activation);
  const double rotated = keys.number("partial_rotary_factor").value_or(1.0);
  if (rotated != 1.0)
    keys.fail_with(ErrorCode::kUnsupported,
                   "partial_rotary_factor {} is not supported yet: expected 1", rotated);
  read_rope(keys, defaults.rope_theta, config);
}

void read_windows_by_layer(JsonKeys& keys, ModelConfig& config) {
  const bool used = keys.boolean("use_sliding_window").value_or(false);
  const int64_t window = used ? keys.integer("sliding_window").value_or(4096) : 0;
  if (window < 0 || window > std::numeric_limits<int>::max() || (used && window == 0))
    keys.fail_with(ErrorCode::kDataLoss, "sliding_window: expected 1 or more, found {}", window);
  const int64_t first = keys.integer("max_window_layers").value_or(28);
  const json::array* types = keys.list("layer_types");
  if (keys.failed()) return;
  if (types && types->size() != config.layers.size()) {
    keys.fail_with(ErrorCode::kDataLoss, "layer_types: expected {} entries, found {}",
                   config.layers.size(), types->size());
    return;
  }
  for (size_t i = 0; i < config.layers.size(); ++i) {
    bool sliding = static_cast<int64_t>(i) >= first;
    if (types) {
      const json::value& type = (*types)[i];
      sliding = type.is_string() && type.get_string() == "sliding_attention";
      if (!sliding && !(type.is_string() && type.get_string() == "full_attention")) {
        keys.fail_with(ErrorCode::kUnsupported,
                       "layer_types[{}]: expected full_attention or sliding_attention", i);
        return;
      }
    }
    config.layers[i].window = sliding ? static_cast<int>(window) : 0;
  }
}

void read_common(GgufKeys& keys, ModelConfig& config) {
  const std::string& name = keys.architecture();
  if (keys.integer(".expert_count").value_or(0) > 0) {
    keys.fail_with(ErrorCode::kUnsupported,
                   "architecture {} with {} experts is not supported yet: experts", name,
                   *keys.integer(".expert_count"));
    return;
  }
  const auto& tensors = keys.checkpoint().tensors;
  const auto embedding = tensors.find("token_embd.weight");
  if (embedding == tensors.end() || embedding->second.shape.size() != 2) {
    keys.fail_with(ErrorCode::kDataLoss, "tensor token_embd.weight is missing or no matrix");
    return;
  }
  Shape shape;
  shape.dim = {"embedding_length", keys.required_integer(".embedding_length")};
  shape.ffn_dim = {"feed_forward_length", keys.required_integer(".feed_forward_length")};
  shape.layers = {"block_count", keys.required_integer(".block_count")};
  shape.q_heads = {"attention.head_count", keys.required_integer(".attention.head_count")};
  shape.kv_heads = {"attention.head_count_kv",
                    keys.integer(".attention.head_count_kv").value_or(shape.q_heads.value)};
  shape.head_dim = {"attention.key_length", stated(keys.integer(".attention.key_length"), 0)};
  shape.vocab = {"the rows of token_embd.weight", embedding->second.shape[0]};
  shape.max_position = {"context_length", keys.required_integer(".context_length")};
  apply_shape(keys, shape, config);
  if (keys.failed()) return;
  const int64_t value_dim = keys.integer(".attention.value_length").value_or(config.head_dim);
  if (value_dim != config.head_dim)
    keys.fail_with(ErrorCode::kUnsupported,
                   "attention.value_length {} other than key_length {} is not supported yet",
                   value_dim, config.head_dim);
  const std::optional<double> eps = keys.number(".attention.layer_norm_rms_epsilon");
  if (!eps)
    keys.fail_with(ErrorCode::kDataLoss,
                   "metadata key {}.attention.layer_norm_rms_epsilon is missing", name);
  apply_eps(keys, "attention.layer_norm_rms_epsilon", eps.value_or(1e-6), config);
  config.tied_head = !keys.checkpoint().contains("output.weight");
  // The file does not say which projections have a bias other than by having it.
  config.qkv_bias = keys.checkpoint().contains("blk.0.attn_q.bias");
  config.out_bias = keys.checkpoint().contains("blk.0.attn_output.bias");
  config.mlp_bias = keys.checkpoint().contains("blk.0.ffn_down.bias");
  config.bos_token = token_id(keys.integer("tokenizer.ggml.bos_token_id"), config);
  for (const std::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const int32_t id = token_id(keys.integer(key), config);
    if (id >= 0 && std::find(config.eos_tokens.begin(), config.eos_tokens.end(), id) ==
                       config.eos_tokens.end())
      config.eos_tokens.push_back(id);
  }
  read_rope(keys, config);
}

}  // namespace donar::model::arch
