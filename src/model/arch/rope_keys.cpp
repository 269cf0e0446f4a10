// The rotary embedding as checkpoints describe it: config.json in both generations of keys, and
// GGUF metadata.
#include <cmath>

#include "model/arch/family.h"

namespace donar::model::arch {
namespace {

constexpr double kMaxFactor = 1e6;
constexpr double kMaxPosition = double{1 << 30};

void check(Keys& keys, ModelConfig& config) {
  if (keys.failed()) return;
  RopeConfig& rope = config.rope;
  const auto positive = [&](std::string_view name, double value, double limit) {
    if (!(value > 0.0 && value <= limit))
      keys.fail_with(ErrorCode::kDataLoss, "rope {}: expected more than 0 and at most {}, found {}",
                     name, limit, value);
  };
  positive("theta", rope.theta, 1e15);
  if (rope.theta <= 1.0)
    keys.fail_with(ErrorCode::kDataLoss, "rope theta: expected more than 1, found {}", rope.theta);
  if (rope.type != RopeType::kDefault) positive("factor", rope.factor, kMaxFactor);
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn)
    positive("original_max_position_embeddings", static_cast<double>(rope.original_max_position),
             kMaxPosition);
  if (rope.type == RopeType::kLlama3) {
    positive("low_freq_factor", rope.low_freq_factor, kMaxFactor);
    positive("high_freq_factor", rope.high_freq_factor, kMaxFactor);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      keys.fail_with(ErrorCode::kDataLoss,
                     "rope high_freq_factor ({}) must be above low_freq_factor ({})",
                     rope.high_freq_factor, rope.low_freq_factor);
  }
  if (rope.type == RopeType::kYarn) {
    positive("beta_fast", rope.beta_fast, kMaxFactor);
    positive("beta_slow", rope.beta_slow, kMaxFactor);
    if (rope.attention_factor < 0.0 || rope.attention_factor > kMaxFactor)
      keys.fail_with(ErrorCode::kDataLoss, "rope attention_factor: expected 0 to {}, found {}",
                     kMaxFactor, rope.attention_factor);
    for (const double scale : {rope.mscale, rope.mscale_all_dim})
      if (!(std::abs(scale) <= kMaxFactor))
        keys.fail_with(ErrorCode::kDataLoss, "rope mscale: expected at most {}, found {}",
                       kMaxFactor, scale);
    if (keys.failed()) return;
    // What the recipe extends to; config files keep the original length in max_position_embeddings
    // or state the product.
    const double extended = static_cast<double>(rope.original_max_position) * rope.factor;
    if (extended > static_cast<double>(config.max_position) && extended <= kMaxPosition)
      config.max_position = static_cast<int64_t>(extended);
  }
}

void set_type(Keys& keys, std::string_view name, RopeConfig& rope) {
  if (name == "default" || name == "none" || name.empty()) {
    rope.type = RopeType::kDefault;
  } else if (name == "linear") {
    rope.type = RopeType::kLinear;
  } else if (name == "llama3") {
    rope.type = RopeType::kLlama3;
  } else if (name == "yarn") {
    rope.type = RopeType::kYarn;
  } else {
    keys.fail_with(
        ErrorCode::kUnsupported,
        "rope type \"{}\" is not supported yet: expected default, linear, llama3 or yarn", name);
  }
}

void read_json_scaling(JsonKeys& keys, JsonKeys& scaling, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  std::optional<std::string> type = scaling.text("rope_type");
  if (!type) type = scaling.text("type");
  set_type(scaling, type.value_or("default"), rope);
  const std::optional<double> factor = scaling.number("factor");
  rope.factor = factor.value_or(1.0);
  rope.original_max_position = scaling.integer("original_max_position_embeddings").value_or(0);
  if (rope.original_max_position == 0) {  // some files keep it outside
    rope.original_max_position =
        keys.integer("original_max_position_embeddings")
            .value_or(rope.type == RopeType::kYarn ? config.max_position : 0);
  }
  if (rope.type == RopeType::kLinear && !factor)
    scaling.fail_with(ErrorCode::kDataLoss, "rope factor is missing");
  if (rope.type == RopeType::kLlama3) {
    const std::optional<double> low = scaling.number("low_freq_factor");
    const std::optional<double> high = scaling.number("high_freq_factor");
    if (!factor || !low || !high)
      scaling.fail_with(ErrorCode::kDataLoss,
                        "rope type llama3 needs factor, low_freq_factor and high_freq_factor");
    rope.low_freq_factor = low.value_or(1.0);
    rope.high_freq_factor = high.value_or(4.0);
  }
  if (rope.type == RopeType::kYarn) {
    if (!factor && rope.original_max_position > 0)
      rope.factor = static_cast<double>(config.max_position) /
                    static_cast<double>(rope.original_max_position);
    const auto or_default = [&](std::string_view key, double fallback) {
      const double value = scaling.number(key).value_or(0.0);
      return value == 0.0 ? fallback : value;
    };
    rope.beta_fast = or_default("beta_fast", 32.0);
    rope.beta_slow = or_default("beta_slow", 1.0);
    rope.attention_factor = or_default("attention_factor", 0.0);
    rope.mscale = or_default("mscale", 0.0);
    rope.mscale_all_dim = or_default("mscale_all_dim", 0.0);
    rope.truncate = scaling.boolean("truncate").value_or(true);
  }
}

}  // namespace

void read_rope(JsonKeys& keys, double default_theta, ModelConfig& config) {
  if (keys.failed()) return;
  config.rope.theta = keys.number("rope_theta").value_or(default_theta);
  const bool is_new = keys.find("rope_parameters") != nullptr;
  const char* name = is_new ? "rope_parameters" : "rope_scaling";
  if (const json::object* object = keys.object(name)) {
    JsonKeys scaling(*object, keys.source(), std::string(name) + ".");
    if (const std::optional<double> theta = scaling.number("rope_theta"))
      config.rope.theta = *theta;
    read_json_scaling(keys, scaling, config);
    keys.adopt_error(scaling);
  }
  check(keys, config);
}

void read_rope(GgufKeys& keys, ModelConfig& config) {
  if (keys.failed()) return;
  RopeConfig& rope = config.rope;
  rope.theta = keys.number(".rope.freq_base").value_or(10000.0);
  const int64_t rotated = keys.integer(".rope.dimension_count").value_or(config.head_dim);
  if (rotated != config.head_dim)
    keys.fail_with(ErrorCode::kUnsupported,
                   "rope.dimension_count {} other than the head's {} values is not supported yet",
                   rotated, config.head_dim);
  set_type(keys, keys.text(".rope.scaling.type").value_or("none"), rope);
  if (rope.type == RopeType::kLlama3)  // in GGUF these factors are the tensor rope_freqs.weight
    keys.fail_with(ErrorCode::kDataLoss, "rope.scaling.type llama3 does not exist in GGUF");
  rope.factor = keys.number(".rope.scaling.factor").value_or(1.0);
  rope.original_max_position =
      keys.integer(".rope.scaling.original_context_length").value_or(config.max_position);
  if (rope.type == RopeType::kYarn) {
    rope.beta_fast = keys.number(".rope.scaling.yarn_beta_fast").value_or(32.0);
    rope.beta_slow = keys.number(".rope.scaling.yarn_beta_slow").value_or(1.0);
    const double scale = keys.number(".rope.scaling.attn_factor").value_or(1.0);
    if (rope.factor > 0.0) rope.attention_factor = scale * (0.1 * std::log(rope.factor) + 1.0);
  }
  check(keys, config);
}

}  // namespace donar::model::arch
