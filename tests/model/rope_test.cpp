// Rotary embeddings against the tables of the reference library.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "model/arch/family.h"
#include "tests/model/test_files.h"

namespace donar::model::test {
namespace {

// A config.json around one rope setting.
json::object config_around(const json::object& item) {
  json::object config = {{"architectures", {"LlamaForCausalLM"}},
                         {"hidden_size", 256},
                         {"intermediate_size", 64},
                         {"num_hidden_layers", 1},
                         {"num_attention_heads", 2},
                         {"vocab_size", 32}};
  for (const char* key : {"head_dim", "rope_theta", "max_position_embeddings", "rope_scaling"})
    config[key] = item.at(key);
  return config;
}

TEST(Rope, equals_the_reference_library) {
  const Result<std::string> text = read_text_file(data_dir() / "rope.json");
  ASSERT_OK(text);
  const Result<json::value> document = parse_json(*text);
  ASSERT_OK(document);
  const json::array& cases = document->at("cases").as_array();
  EXPECT_EQ(cases.size(), 20u);
  for (const json::value& value : cases) {
    const json::object& item = value.as_object();
    SCOPED_TRACE(std::string(item.at("name").as_string()));
    const Result<ModelConfig> config = arch::config_from_json(config_around(item), "config.json");
    ASSERT_OK(config);
    const std::vector<float> frequencies = inverse_frequencies(config->rope, config->head_dim);
    const json::array& expected = item.at("inv_freq").as_array();
    ASSERT_EQ(frequencies.size(), expected.size());
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double wanted = expected[i].to_number<double>();
      EXPECT_NEAR(frequencies[i], wanted, 1e-6 * wanted) << "pair " << i;
    }
    const float factor = attention_factor(config->rope);
    EXPECT_NEAR(factor, item.at("attention_factor").to_number<double>(), 1e-6);

    const json::array& positions = item.at("positions").as_array();
    std::vector<float> cos(frequencies.size()), sin(frequencies.size());
    for (size_t p = 0; p < positions.size(); ++p) {
      const int64_t position = positions[p].to_number<int64_t>();
      fill_cos_sin(frequencies, factor, position, cos.data(), sin.data());
      // A frequency's last bit turns by position x 2^-24; both sides round once or twice.
      const double tolerance = 1e-6 + 2e-7 * static_cast<double>(position);
      for (size_t i = 0; i < cos.size(); ++i) {
        EXPECT_NEAR(cos[i], item.at("cos").at(p).at(i).to_number<double>(), tolerance)
            << position << ", pair " << i;
        EXPECT_NEAR(sin[i], item.at("sin").at(p).at(i).to_number<double>(), tolerance)
            << position << ", pair " << i;
      }
    }
  }
}

TEST(Rope, gguf_divisors_take_the_place_of_llama3_scaling) {
  RopeConfig llama3;
  llama3.type = RopeType::kLlama3;
  llama3.theta = 500000.0;
  llama3.factor = 8.0;
  llama3.original_max_position = 8192;
  const std::vector<float> scaled = inverse_frequencies(llama3, 128);
  RopeConfig plain;
  plain.theta = 500000.0;
  const std::vector<float> unscaled = inverse_frequencies(plain, 128);
  for (size_t i = 0; i < scaled.size(); ++i)
    plain.frequency_divisors.push_back(unscaled[i] / scaled[i]);
  const std::vector<float> divided = inverse_frequencies(plain, 128);
  llama3.frequency_divisors = plain.frequency_divisors;
  const std::vector<float> once = inverse_frequencies(llama3, 128);
  for (size_t i = 0; i < scaled.size(); ++i) {
    EXPECT_NEAR(divided[i], scaled[i], 1e-6 * scaled[i]) << i;
    EXPECT_EQ(once[i], divided[i]) << "scaled twice at " << i;
  }
}

}  // namespace
}  // namespace donar::model::test
