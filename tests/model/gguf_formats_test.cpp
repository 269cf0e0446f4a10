// Whole models of the quantized GGUF formats, mixed as in Q4_K_M and Q5_K_M files: the rows in the
// buffer are those of a twin that stores the same values as F32, and so are the logits but for the
// rounding of activations.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "ops/linear.h"
#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

using quant::Format;

constexpr int64_t kDim = 256, kHidden = 512, kVocab = 70;

struct Formats {
  Format embedding, query, key, value, attn_out, gate, up, down, head;
};

// A llama of one layer. Values are those that the formats can hold, whether the file stores them in
// the formats or as F32.
fs::path write_model(const TempDir& dir, const std::string& name, const Formats& formats,
                     bool as_f32) {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 512)
      .u32("llama.embedding_length", kDim)
      .u32("llama.attention.head_count", 4)
      .u32("llama.attention.head_count_kv", 2)
      .u32("llama.feed_forward_length", kHidden)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  std::mt19937 generator(1);
  const auto matrix = [&](const std::string& tensor, int64_t n, int64_t k, Format format) {
    std::normal_distribution<float> normal(0.0f, 1.0f / std::sqrt(static_cast<float>(k)));
    std::vector<float> values(static_cast<size_t>(k));
    std::string row(static_cast<size_t>(quant::row_bytes(format, k)), '\0'), bytes;
    for (int64_t i = 0; i < n; ++i) {
      for (float& value : values) value = normal(generator);
      quant::pack_row(format, values.data(), k, row.data());
      quant::unpack_row(format, row.data(), k, values.data());
      bytes += as_f32 ? std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4)
                      : row;
    }
    writer.tensor(tensor, {k, n}, quant::info(as_f32 ? Format::kF32 : format).ggml_type, bytes);
  };
  const auto norm = [&](const std::string& tensor) {
    std::string bytes;
    for (int64_t i = 0; i < kDim; ++i) append(bytes, 0.5f + static_cast<float>(i % 7) * 0.2f);
    writer.tensor(tensor, {kDim}, quant::info(Format::kF32).ggml_type, bytes);
  };
  matrix("token_embd.weight", kVocab, kDim, formats.embedding);
  norm("blk.0.attn_norm.weight");
  matrix("blk.0.attn_q.weight", kDim, kDim, formats.query);
  matrix("blk.0.attn_k.weight", kDim / 2, kDim, formats.key);
  matrix("blk.0.attn_v.weight", kDim / 2, kDim, formats.value);
  matrix("blk.0.attn_output.weight", kDim, kDim, formats.attn_out);
  norm("blk.0.ffn_norm.weight");
  matrix("blk.0.ffn_gate.weight", kHidden, kDim, formats.gate);
  matrix("blk.0.ffn_up.weight", kHidden, kDim, formats.up);
  matrix("blk.0.ffn_down.weight", kDim, kHidden, formats.down);
  norm("output_norm.weight");
  matrix("output.weight", kVocab, kDim, formats.head);
  return dir.write(name, writer.bytes());
}

const Formats kMixes[] = {
    // Q4_K_M and Q5_K_M: values and down projections of some layers have more bits.
    {Format::kQ4_K, Format::kQ4_K, Format::kQ4_K, Format::kQ6_K, Format::kQ4_K, Format::kQ4_K,
     Format::kQ4_K, Format::kQ6_K, Format::kQ6_K},
    {Format::kQ5_K, Format::kQ5_K, Format::kQ5_K, Format::kQ6_K, Format::kQ5_K, Format::kQ5_K,
     Format::kQ5_K, Format::kQ6_K, Format::kQ6_K},
    // What else may share a group: offsets of their own, minimums, and no integers at all.
    {Format::kQ5_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0, Format::kQ5_0, Format::kQ5_1,
     Format::kQ4_1, Format::kQ5_0, Format::kQ5_1},
    {Format::kQ8_0, Format::kQ4_K, Format::kBF16, Format::kQ5_K, Format::kQ5_K, Format::kQ6_K,
     Format::kQ4_K, Format::kQ5_1, Format::kQ5_K},
};

void expect_rows(const quant::LinearWeight& weight, const quant::LinearWeight& twin, Format format,
                 const std::string& name) {
  ASSERT_EQ(weight.format, format) << name;
  ASSERT_EQ(twin.format, Format::kF32) << name;
  std::vector<float> a(static_cast<size_t>(weight.k)), b(a.size());
  for (int64_t row = 0; row < weight.n; ++row) {
    ops::unpack_packed_row(weight, row, a.data());
    ops::unpack_packed_row(twin, row, b.data());
    ASSERT_EQ(a, b) << name << ", row " << row;
  }
}

TEST(GgufFormats, rows_are_the_values_of_the_file_in_the_order_of_the_model) {
  for (const Formats& formats : kMixes) {
    const TempDir dir;
    const auto model = Runner::open(write_model(dir, "a.gguf", formats, false), {});
    const auto twin = Runner::open(write_model(dir, "b.gguf", formats, true), {});
    ASSERT_TRUE(model && twin);
    const Weights &a = model->weights(), &b = twin->weights();
    const auto &layer = a.layers[0], &other = b.layers[0];
    expect_rows(a.embedding, b.embedding, formats.embedding, "embedding");
    expect_rows(layer.qkv.parts[0], other.qkv.parts[0], formats.query, "q");
    expect_rows(layer.qkv.parts[1], other.qkv.parts[1], formats.key, "k");
    expect_rows(layer.qkv.parts[2], other.qkv.parts[2], formats.value, "v");
    expect_rows(layer.attn_out.parts[0], other.attn_out.parts[0], formats.attn_out, "o");
    expect_rows(layer.gate_up.parts[0], other.gate_up.parts[0], formats.gate, "gate");
    expect_rows(layer.gate_up.parts[1], other.gate_up.parts[1], formats.up, "up");
    expect_rows(layer.down.parts[0], other.down.parts[0], formats.down, "down");
    expect_rows(a.head.parts[0], b.head.parts[0], formats.head, "head");
    EXPECT_LT(a.bytes, b.bytes / 3);
  }
}

TEST(GgufFormats, logits_are_those_of_the_values_as_f32_on_every_instruction_set) {
  const std::vector<int32_t> tokens = {3, 69, 0, 12, 12, 41, 7, 58, 33, 20, 1};
  for (const Formats& formats : kMixes) {
    const TempDir dir;
    const fs::path path = write_model(dir, "a.gguf", formats, false);
    const auto twin = Runner::open(write_model(dir, "b.gguf", formats, true), {});
    ASSERT_TRUE(twin);
    const auto expected = twin->run(tokens, tokens.size());
    for (const CpuIsa isa : kCpuIsas) {
      if (!cpu_runs(isa)) continue;
      const auto model = Runner::open(path, {.isa = isa});
      ASSERT_TRUE(model);
      const auto logits = model->run(tokens, tokens.size());
      double squares = 0.0, off = 0.0;
      for (size_t row = 0; row < logits.size(); ++row)
        for (size_t i = 0; i < logits[row].size(); ++i) {
          squares += double{expected[row][i]} * expected[row][i];
          off += std::pow(double{logits[row][i]} - expected[row][i], 2);
        }
      EXPECT_LT(std::sqrt(off / squares), 0.02)
          << cpu_isa_name(isa) << ", " << quant::info(formats.query).name;
      EXPECT_EQ(model->run(tokens, 1), logits)  // one token a step: the same bits
          << cpu_isa_name(isa) << ", " << quant::info(formats.query).name;
    }
  }
}

}  // namespace
}  // namespace donar::model::test
