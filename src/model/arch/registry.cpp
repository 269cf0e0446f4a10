// The table of model families: one row each. From what a checkpoint calls itself to a ModelConfig.
#include <algorithm>

#include "model/arch/family.h"

namespace donar::model::arch {
namespace {

constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", "llama", llama_from_json, llama_from_gguf, ""},
    {"MistralForCausalLM", "mistral", "", mistral_from_json, nullptr, ""},
    {"Qwen2ForCausalLM", "qwen2", "qwen2", qwen2_from_json, qwen2_from_gguf, ""},
    {"Qwen3ForCausalLM", "qwen3", "qwen3", qwen3_from_json, qwen3_from_gguf, ""},
    {"MixtralForCausalLM", "mixtral", "", nullptr, nullptr, "experts"},
    {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe", nullptr, nullptr, "experts"},
    {"GptOssForCausalLM", "gpt_oss", "gpt-oss", nullptr, nullptr, "experts"},
};

std::string supported_names(std::string_view Family::*name) {
  std::string names;
  for (const Family& family : kFamilies) {
    if ((family.*name).empty() || !family.refused.empty()) continue;
    if (!names.empty()) names += ", ";
    names += family.*name;
  }
  return names;
}

const Family* find_family(std::string_view Family::*name, std::string_view wanted) {
  for (const Family& family : kFamilies)
    if (!wanted.empty() && family.*name == wanted) return &family;
  return nullptr;
}

Result<ModelConfig> finish(const Keys& keys, ModelConfig&& config) {
  if (keys.failed()) return tl::unexpected(keys.error());
  return std::move(config);
}

void refuse(Keys& keys, std::string_view architecture, std::string_view what) {
  keys.fail_with(ErrorCode::kUnsupported, "architecture {} is not supported yet: {}", architecture,
                 what);
}

// architectures[0], or the class that model_type stands for.
std::string architecture_of(JsonKeys& keys) {
  if (const json::array* names = keys.list("architectures"); names && !names->empty()) {
    if ((*names)[0].is_string()) return std::string((*names)[0].get_string());
    keys.fail_with(ErrorCode::kDataLoss, "architectures[0]: expected a string");
    return {};
  }
  const std::optional<std::string> type = keys.text("model_type");
  if (!type && !keys.failed())
    keys.fail_with(ErrorCode::kDataLoss,
                   "neither architectures nor model_type is given: this is no model's config.json");
  const Family* family = find_family(&Family::model_type, type.value_or(""));
  return family ? std::string(family->architecture) : type.value_or("");
}

void add_eos(const json::value* value, ModelConfig& config) {
  const auto add = [&](const json::value& id) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= config.vocab_size) return;
    const auto token = static_cast<int32_t>(id.get_int64());
    if (std::find(config.eos_tokens.begin(), config.eos_tokens.end(), token) ==
        config.eos_tokens.end())
      config.eos_tokens.push_back(token);
  };
  if (!value) return;
  if (!value->is_array()) return add(*value);
  for (const json::value& id : value->get_array()) add(id);
}

}  // namespace

void add_eos_tokens(const json::object& object, ModelConfig& config) {
  add_eos(object.if_contains("eos_token_id"), config);
}

Result<ModelConfig> config_from_json(const json::object& object, const std::string& source) {
  JsonKeys keys(object, source);
  ModelConfig config;
  config.architecture = architecture_of(keys);
  if (keys.failed()) return finish(keys, std::move(config));
  const Family* family = find_family(&Family::architecture, config.architecture);
  if (!family) {
    keys.fail_with(ErrorCode::kUnsupported, "architecture {} is not supported: expected one of {}",
                   config.architecture, supported_names(&Family::architecture));
  } else if (!family->refused.empty()) {
    refuse(keys, config.architecture, family->refused);
  } else if (const json::object* quantization = keys.object("quantization_config")) {
    JsonKeys inner(*quantization, source, "quantization_config.");
    keys.fail_with(ErrorCode::kUnsupported,
                   "weights quantized by \"{}\" (quantization_config) are not supported yet: use a "
                   "BF16 or F16 checkpoint or a GGUF file",
                   inner.text("quant_method").value_or("an unnamed method"));
  } else {
    family->from_json(keys, config);
    add_eos_tokens(object, config);
  }
  return finish(keys, std::move(config));
}

Result<ModelConfig> config_from_gguf(const Checkpoint& checkpoint) {
  ModelConfig config;
  const auto name = checkpoint.metadata.find("general.architecture");
  if (name != checkpoint.metadata.end())
    if (const auto* text = std::get_if<std::string>(&name->second)) config.architecture = *text;
  GgufKeys keys(checkpoint, config.architecture);
  const Family* family = find_family(&Family::gguf_architecture, config.architecture);
  if (config.architecture.empty()) {
    keys.fail_with(ErrorCode::kDataLoss,
                   "metadata key general.architecture is missing: this is no model's GGUF file");
  } else if (!family) {
    keys.fail_with(ErrorCode::kUnsupported, "architecture {} is not supported: expected one of {}",
                   config.architecture, supported_names(&Family::gguf_architecture));
  } else if (!family->refused.empty()) {
    refuse(keys, config.architecture, family->refused);
  } else {
    family->from_gguf(keys, config);
  }
  return finish(keys, std::move(config));
}

}  // namespace donar::model::arch
