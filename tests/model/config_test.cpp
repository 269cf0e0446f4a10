// From config.json and GGUF metadata to a ModelConfig: both generations of keys, every family, and
// values that no model has.
#include <gtest/gtest.h>

#include "base/json.h"
#include "model/arch/family.h"
#include "tests/model/test_files.h"

namespace donar::model::test {
namespace {

const char* const kLlama =
    R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":96,
  "num_hidden_layers":3,"num_attention_heads":4,"vocab_size":61})";

// kLlama with `changes` put over it; null erases nothing (a config may hold nulls), "-key" erases.
Result<ModelConfig> config_with(const std::string& changes) {
  json::object config = parse_json(kLlama)->as_object();
  const Result<json::value> parsed = parse_json(changes);
  EXPECT_TRUE(parsed.has_value()) << changes;
  for (const auto& [key, value] : parsed->as_object()) {
    if (key.starts_with("-"))
      config.erase(std::string_view(key).substr(1));
    else
      config[key] = value;
  }
  return arch::config_from_json(config, "dir/config.json");
}

TEST(Config, llama_defaults_are_those_of_its_class) {
  const Result<ModelConfig> config = config_with("{}");
  ASSERT_OK(config);
  EXPECT_EQ(config->architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->dim, 64);
  EXPECT_EQ(config->ffn_dim, 96);
  EXPECT_EQ(config->layers.size(), 3u);
  EXPECT_EQ(config->q_heads, 4);
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->max_position, 2048);
  EXPECT_FLOAT_EQ(config->rms_eps, 1e-6f);
  EXPECT_EQ(config->rope.theta, 1e4);
  EXPECT_FALSE(config->tied_head || config->qkv_bias || config->out_bias || config->mlp_bias ||
               config->qk_norm);
  EXPECT_EQ(config->bos_token, -1);
  EXPECT_TRUE(config->eos_tokens.empty());
}

TEST(Config, null_counts_as_absent) {
  const Result<ModelConfig> config = config_with(
      R"({"head_dim":null,"num_key_value_heads":null,"rope_scaling":null,"eos_token_id":null})");
  ASSERT_OK(config);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->kv_heads, 4);
}

TEST(Config, both_generations_of_rope_keys_mean_the_same) {
  const Result<ModelConfig> old_keys = config_with(
      R"({"rope_theta":5e5,"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,
          "original_max_position_embeddings":8192}})");
  const Result<ModelConfig> new_keys = config_with(
      R"({"rope_theta":1.0,"rope_parameters":{"rope_theta":500000,"rope_type":"llama3","factor":8.0,
          "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}})");
  ASSERT_OK(old_keys);
  ASSERT_OK(new_keys);
  for (const ModelConfig* config : {&*old_keys, &*new_keys}) {
    EXPECT_EQ(config->rope.type, RopeType::kLlama3);
    EXPECT_EQ(config->rope.theta, 5e5);
    EXPECT_EQ(config->rope.factor, 8.0);
    EXPECT_EQ(config->rope.original_max_position, 8192);
  }
}

TEST(Config, yarn_extends_the_context_that_the_file_states) {
  const Result<ModelConfig> config = config_with(
      R"({"max_position_embeddings":32768,"rope_scaling":{"type":"yarn","factor":4.0,"original_max_position_embeddings":32768}})");
  ASSERT_OK(config);
  EXPECT_EQ(config->max_position, 131072);
  const Result<ModelConfig> from_length = config_with(
      R"({"max_position_embeddings":4096,"rope_scaling":{"rope_type":"yarn","factor":null,"original_max_position_embeddings":1024,"beta_fast":0}})");
  ASSERT_OK(from_length);
  EXPECT_EQ(from_length->rope.factor, 4.0);
  EXPECT_EQ(from_length->rope.beta_fast, 32.0);
}

TEST(Config, model_type_stands_in_for_architectures) {
  const Result<ModelConfig> config =
      config_with(R"({"-architectures":0,"model_type":"qwen2","num_key_value_heads":2})");
  ASSERT_OK(config);
  EXPECT_EQ(config->architecture, "Qwen2ForCausalLM");
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->out_bias);
}

TEST(Config, llama_biases_follow_their_keys) {
  const Result<ModelConfig> config =
      config_with(R"({"attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true})");
  ASSERT_OK(config);
  EXPECT_TRUE(config->qkv_bias && config->out_bias && config->mlp_bias && config->tied_head);
}

TEST(Config, mistral_has_its_window_in_every_layer_unless_null) {
  const auto windows = [](const std::string& changes) {
    const Result<ModelConfig> config = config_with(
        R"({"architectures":["MistralForCausalLM"],"num_key_value_heads":2)" + changes + "}");
    EXPECT_TRUE(config.has_value());
    std::vector<int> out;
    if (config)
      for (const LayerConfig& layer : config->layers) out.push_back(layer.window);
    return out;
  };
  EXPECT_EQ(windows(R"(,"sliding_window":7)"), (std::vector<int>{7, 7, 7}));
  EXPECT_EQ(windows(R"(,"sliding_window":null)"), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(windows(""), (std::vector<int>{4096, 4096, 4096}));
}

TEST(Config, qwen_windows_are_by_layer_and_only_where_turned_on) {
  const auto windows = [](const std::string& changes) {
    const Result<ModelConfig> config = config_with(
        R"({"architectures":["Qwen2ForCausalLM"],"num_key_value_heads":2,"sliding_window":9)" +
        changes + "}");
    EXPECT_TRUE(config.has_value()) << config.error().message;
    std::vector<int> out;
    if (config)
      for (const LayerConfig& layer : config->layers) out.push_back(layer.window);
    return out;
  };
  EXPECT_EQ(windows(R"(,"use_sliding_window":false,"max_window_layers":0)"),
            (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(windows(R"(,"use_sliding_window":true,"max_window_layers":1)"),
            (std::vector<int>{0, 9, 9}));
  EXPECT_EQ(windows(R"(,"use_sliding_window":true)"), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(
      windows(
          R"(,"use_sliding_window":true,"layer_types":["sliding_attention","full_attention","sliding_attention"])"),
      (std::vector<int>{9, 0, 9}));
}

TEST(Config, qwen3_normalises_q_and_k_and_states_its_head_dim) {
  const Result<ModelConfig> config =
      config_with(R"({"architectures":["Qwen3ForCausalLM"],"num_key_value_heads":2})");
  ASSERT_OK(config);
  EXPECT_TRUE(config->qk_norm);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->q_dim(), 512);
}

TEST(Config, the_stop_set_is_the_union_of_both_files) {
  const TempDir dir;
  dir.write("config.json", std::string(kLlama).substr(0, std::string(kLlama).rfind('}')) +
                               R"(,"bos_token_id":1,"eos_token_id":[2,3]})");
  dir.write("generation_config.json", R"({"eos_token_id":4,"temperature":0.6})");
  Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  EXPECT_EQ(files->config.eos_tokens, (std::vector<int32_t>{2, 3, 4}));
  EXPECT_EQ(files->config.bos_token, 1);
  EXPECT_EQ(files->generation_config.at("temperature").as_double(), 0.6);
  dir.write("generation_config.json",
            R"({"eos_token_id":[3,60,61,-1]})");  // 61 is beyond the vocabulary
  files = open_model(dir.path());
  ASSERT_OK(files);
  EXPECT_EQ(files->config.eos_tokens, (std::vector<int32_t>{2, 3, 60}));
}

TEST(Config, families_with_experts_are_refused_by_one_clear_message) {
  for (const char* name : {"MixtralForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"})
    EXPECT_ERROR_SAYS(
        config_with(fmt::format(R"({{"architectures":["{}"],"quantization_config":{{}}}})", name)),
        name, "not supported yet: experts", "dir/config.json");
  EXPECT_ERROR_SAYS(config_with(R"({"-architectures":0,"model_type":"gpt_oss"})"),
                    "not supported yet: experts");
}

TEST(Config, unknown_and_quantized_models_are_refused_by_name) {
  EXPECT_ERROR_SAYS(config_with(R"({"architectures":["GPT2LMHeadModel"]})"), "GPT2LMHeadModel",
                    "LlamaForCausalLM");
  EXPECT_ERROR_SAYS(config_with(R"({"quantization_config":{"quant_method":"gptq"}})"), "gptq",
                    "not supported yet");
  EXPECT_ERROR_SAYS(config_with(R"({"-architectures":0})"), "model_type");
}

struct BadValue {
  const char* changes;
  const char* says;
};

TEST(Config, impossible_values_get_one_clear_error) {
  const BadValue table[] = {
      {R"({"hidden_size":0})", "hidden_size: expected 1 to"},
      {R"({"hidden_size":-64})", "hidden_size"},
      {R"({"hidden_size":1e300})", "hidden_size: expected a whole number"},
      {R"({"hidden_size":18446744073709551615})", "hidden_size: expected a whole number"},
      {R"({"hidden_size":4611686018427387904})", "hidden_size: expected 1 to"},
      {R"({"hidden_size":64.5})", "hidden_size: expected a whole number"},
      {R"({"hidden_size":"64"})", "hidden_size: expected a whole number, found \"64\""},
      {R"({"-hidden_size":0})", "hidden_size is missing"},
      {R"({"hidden_size":66})", "hidden_size (66) must be a multiple of num_attention_heads (4)"},
      {R"({"num_attention_heads":0})", "num_attention_heads"},
      {R"({"num_attention_heads":-4,"num_key_value_heads":2})", "num_attention_heads"},
      {R"({"num_key_value_heads":0})", "num_key_value_heads"},
      {R"({"num_key_value_heads":3})", "multiple of num_key_value_heads (3)"},
      {R"({"num_key_value_heads":8})", "multiple of num_key_value_heads (8)"},
      {R"({"head_dim":0})", "head_dim"},
      {R"({"head_dim":-2})", "head_dim"},
      {R"({"head_dim":15})", "head_dim: expected an even number, found 15"},
      {R"({"head_dim":1000000})", "head_dim"},
      {R"({"num_attention_heads":16384,"head_dim":4096,"num_key_value_heads":1})",
       "num_attention_heads x head_dim"},
      {R"({"num_hidden_layers":0})", "num_hidden_layers"},
      {R"({"num_hidden_layers":1000000000000})", "num_hidden_layers"},
      {R"({"intermediate_size":0})", "intermediate_size"},
      {R"({"vocab_size":0})", "vocab_size"},
      {R"({"vocab_size":1099511627776})", "vocab_size"},
      {R"({"max_position_embeddings":0})", "max_position_embeddings"},
      {R"({"rms_norm_eps":0})", "rms_norm_eps"},
      {R"({"rms_norm_eps":-1e-6})", "rms_norm_eps"},
      {R"({"rms_norm_eps":2})", "rms_norm_eps"},
      {R"({"rms_norm_eps":"tiny"})", "rms_norm_eps: expected a number"},
      {R"({"tie_word_embeddings":1})", "tie_word_embeddings: expected true or false"},
      {R"({"hidden_act":"gelu"})", "gelu"},
      {R"({"partial_rotary_factor":0.5})", "partial_rotary_factor"},
      {R"({"architectures":"LlamaForCausalLM"})", "architectures: expected a list"},
      {R"({"architectures":[7]})", "architectures[0]"},
      {R"({"rope_theta":0})", "rope theta"},
      {R"({"rope_theta":-1})", "rope theta"},
      {R"({"rope_theta":1})", "rope theta"},
      {R"({"rope_scaling":[]})", "rope_scaling: expected an object"},
      {R"({"rope_scaling":{"rope_type":"dynamic","factor":2}})", "\"dynamic\" is not supported"},
      {R"({"rope_scaling":{"rope_type":"longrope"}})", "\"longrope\" is not supported"},
      {R"({"rope_scaling":{"type":"linear"}})", "factor is missing"},
      {R"({"rope_scaling":{"type":"linear","factor":0}})", "rope factor"},
      {R"({"rope_scaling":{"type":"linear","factor":-2}})", "rope factor"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8}})", "low_freq_factor"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}})",
       "original_max_position_embeddings"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,
           "original_max_position_embeddings":64}})",
       "high_freq_factor (4) must be above"},
      {R"({"rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":-1}})",
       "original_max_position_embeddings"},
      {R"({"rope_scaling":{"rope_type":"yarn","factor":4,"beta_fast":-1,"original_max_position_embeddings":64}})",
       "beta_fast"},
      {R"({"architectures":["MistralForCausalLM"],"num_key_value_heads":2,"sliding_window":0})",
       "sliding_window"},
      {R"({"architectures":["MistralForCausalLM"],"num_key_value_heads":2,"sliding_window":-5})",
       "sliding_window"},
      {R"({"architectures":["Qwen2ForCausalLM"],"num_key_value_heads":2,"use_sliding_window":true,"sliding_window":0})",
       "sliding_window"},
      {R"({"architectures":["Qwen2ForCausalLM"],"num_key_value_heads":2,"layer_types":["full_attention"]})",
       "layer_types: expected 3 entries, found 1"},
      {R"({"architectures":["Qwen3ForCausalLM"],"num_key_value_heads":2,"layer_types":["full_attention","x","full_attention"]})",
       "layer_types[1]"},
  };
  for (const BadValue& bad : table) {
    SCOPED_TRACE(bad.changes);
    EXPECT_ERROR_SAYS(config_with(bad.changes), "dir/config.json", bad.says);
  }
}

// The metadata that a one-layer llama needs, with its embedding table.
GgufWriter llama_gguf() {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 512);
  writer.u32("llama.embedding_length", 64).u32("llama.attention.head_count", 4);
  writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  return writer;
}

Result<ModelFiles> open_gguf_bytes(GgufWriter writer, const char* embedding = "token_embd.weight") {
  writer.tensor(embedding, {64, 61}, 1, std::string(64 * 61 * 2, '\0'));
  const TempDir dir;
  return open_model(dir.write("model.gguf", writer.bytes()));
}

TEST(GgufConfig, fills_in_what_the_metadata_leaves_out) {
  GgufWriter writer = llama_gguf();
  writer.u32_array("llama.feed_forward_length", {96, 96});
  writer.u32("tokenizer.ggml.bos_token_id", 1)
      .u32("tokenizer.ggml.eos_token_id", 2)
      .u32("tokenizer.ggml.eot_token_id", 3);
  const Result<ModelFiles> files = open_gguf_bytes(writer);
  ASSERT_OK(files);
  const ModelConfig& config = files->config;
  EXPECT_EQ(config.vocab_size, 61);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.ffn_dim, 96);
  EXPECT_FLOAT_EQ(config.rms_eps, 1e-5f);
  EXPECT_EQ(config.rope.theta, 1e4);
  EXPECT_TRUE(config.tied_head && config.permuted_qk);
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(files->precision, "F16");
}

TEST(GgufConfig, impossible_and_unsupported_metadata_gets_one_clear_error) {
  const auto with = [](auto&& change) {
    GgufWriter writer = llama_gguf();
    writer.u32("llama.feed_forward_length", 96);
    change(writer);
    return open_gguf_bytes(writer);
  };
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.expert_count", 8); }), "8 experts",
                    "not supported yet: experts");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.attention.head_count_kv", 3); }),
                    "head_count_kv (3)");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.attention.head_count_kv", 0); }),
                    "head_count_kv");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.attention.key_length", 15); }),
                    "key_length", "even");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.attention.value_length", 8); }),
                    "value_length");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.u32("llama.rope.dimension_count", 8); }),
                    "dimension_count");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.text("llama.rope.scaling.type", "longrope"); }),
                    "longrope");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.f32("llama.rope.freq_base", -1.0f); }),
                    "rope theta");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) { w.text("llama.attention.key_length", "16"); }),
                    "llama.attention.key_length");
  EXPECT_ERROR_SAYS(with([](GgufWriter& w) {
                      w.u32_array("llama.attention.head_count_kv", {4, 2});
                    }),
                    "differs between layers");
  EXPECT_ERROR_SAYS(open_gguf_bytes(llama_gguf()), "llama.feed_forward_length is missing");
  EXPECT_ERROR_SAYS(open_gguf_bytes(llama_gguf(), "other"), "token_embd.weight");
  EXPECT_ERROR_SAYS(open_gguf_bytes(GgufWriter()), "general.architecture is missing");
  EXPECT_ERROR_SAYS(open_gguf_bytes(GgufWriter().text("general.architecture", "qwen3moe")),
                    "not supported yet: experts");
  EXPECT_ERROR_SAYS(open_gguf_bytes(GgufWriter().text("general.architecture", "gpt-oss")),
                    "not supported yet: experts");
  EXPECT_ERROR_SAYS(open_gguf_bytes(GgufWriter().text("general.architecture", "bert")), "bert",
                    "llama, qwen2, qwen3");
}

TEST(OpenModel, says_what_a_path_should_have_been) {
  const TempDir dir;
  EXPECT_ERROR_SAYS(open_model(dir.path() / "nothing"), "does not exist", "config.json");
  EXPECT_ERROR_SAYS(open_model(dir.path()), "no config.json and no .gguf");
  EXPECT_ERROR_SAYS(open_model(tiny("llama") / "model.safetensors"), "give its directory");
  dir.write("config.json", "{\"architectures\":");
  EXPECT_ERROR_SAYS(open_model(dir.path()), "config.json", "malformed JSON");
  dir.write("config.json", "[]");
  EXPECT_ERROR_SAYS(open_model(dir.path()), "config.json", "expected a JSON object");
  dir.write("config.json", kLlama);
  dir.write("hf_quant_config.json", "{}");
  EXPECT_ERROR_SAYS(open_model(dir.path()), "hf_quant_config.json", "not supported yet");
}

TEST(OpenModel, a_directory_with_one_gguf_file_is_that_file) {
  const TempDir dir;
  fs::copy_file(tiny("llama") / "model.gguf", dir.path() / "m-00001-of-00001.gguf");
  dir.write("config.json", R"({"model_type":"llama"})");  // what repositories of GGUF files have
  Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  EXPECT_EQ(files->checkpoint.container, Checkpoint::Container::kGguf);
  dir.write("m-00002-of-00003.gguf", "a later part is no model of its own");
  ASSERT_OK(open_model(dir.path()));
  fs::copy_file(tiny("llama") / "model.gguf", dir.path() / "other.gguf");
  EXPECT_ERROR_SAYS(open_model(dir.path()), "2 GGUF files", "give the path of one");
}

}  // namespace
}  // namespace donar::model::test
