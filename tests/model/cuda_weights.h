// Weights in the layout of CUDA, in host memory: what a plan must put where, told from the model's
// shape and from the weights that the CPU loads, not from the plan.
#pragma once

#include <gtest/gtest.h>

#include <set>

#include "model/load_plan.h"
#include "ops/cuda/common/tiled.h"
#include "ops/linear.h"
#include "tests/model/test_files.h"

namespace donar::model::test {

// An exec to plan with; nothing runs on it.
struct PlannedDevice {
  explicit PlannedDevice(int num_sms, DType activation) {
    cuda.arch = 90;
    cuda.num_sms = num_sms;
    ex.device = DeviceType::kCuda;
    ex.cuda = &cuda;
    ex.activation = activation;
  }
  PlannedDevice(const PlannedDevice&) = delete;
  PlannedDevice& operator=(const PlannedDevice&) = delete;
  CudaExec cuda;
  Exec ex;
};

inline uint16_t bits_of(float value, DType dtype) {
  return dtype == DType::kBF16 ? bf16(value).bits : f16(value).bits;
}

// A GGUF of many formats, several in one group, with gate and up of 20 rows: no multiple of 8.
inline fs::path write_mixed_gguf(const TempDir& dir) {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 512)
      .u32("llama.embedding_length", 256)
      .u32("llama.attention.head_count", 4)
      .u32("llama.attention.head_count_kv", 2)
      .u32("llama.feed_forward_length", 20)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  uint64_t seed = 1;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, quant::Format format) {
    const int64_t k = shape.back(), n = shape.size() > 1 ? shape[0] : 1;
    std::string bytes;
    std::vector<float> values(static_cast<size_t>(k));
    std::vector<char> row(static_cast<size_t>(quant::row_bytes(format, k)));
    for (int64_t i = 0; i < n; ++i) {
      for (float& value : values) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        value = static_cast<float>(static_cast<int32_t>(seed >> 33) % 1000) * 0.001f;
      }
      quant::pack_row(format, values.data(), k, row.data());
      bytes.append(row.data(), row.size());
    }
    std::vector<int64_t> ne(shape.rbegin(), shape.rend());
    writer.tensor(name, ne, quant::info(format).ggml_type, bytes);
  };
  add("token_embd.weight", {50, 256}, quant::Format::kQ8_0);
  add("output.weight", {50, 256}, quant::Format::kQ6_K);
  add("output_norm.weight", {256}, quant::Format::kF32);
  add("blk.0.attn_norm.weight", {256}, quant::Format::kF32);
  add("blk.0.ffn_norm.weight", {256}, quant::Format::kF32);
  add("blk.0.attn_q.weight", {256, 256}, quant::Format::kQ4_1);
  add("blk.0.attn_k.weight", {128, 256}, quant::Format::kQ4_0);
  add("blk.0.attn_v.weight", {128, 256}, quant::Format::kF16);
  add("blk.0.attn_output.weight", {256, 256}, quant::Format::kBF16);
  add("blk.0.ffn_gate.weight", {20, 256}, quant::Format::kF32);
  add("blk.0.ffn_up.weight", {20, 256}, quant::Format::kQ8_0);
  add("blk.0.ffn_down.weight", {256, 20}, quant::Format::kF16);
  return dir.write("mixed.gguf", writer.bytes());
}

// Compares each value with the one that the CPU has, and counts what was compared: all else in the
// buffer must be zero.
class TiledComparison {
 public:
  explicit TiledComparison(DType activation) : activation_(activation) {}

  // Rows of `cpu` are rows row_of(r) of `packed`.
  template <class RowOf>
  void matrix(const std::string& name, const quant::LinearWeight& cpu,
              const quant::LinearWeight& packed, const RowOf& row_of) {
    ASSERT_EQ(packed.layout, quant::Layout::kTiled) << name;
    ASSERT_EQ(packed.format,
              activation_ == DType::kBF16 ? quant::Format::kBF16 : quant::Format::kF16)
        << name;
    ASSERT_EQ(packed.k, cpu.k) << name;
    ASSERT_EQ(packed.tile_rows % 32, 0) << name;
    ASSERT_GT(packed.tile_rows, 0) << name;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(packed.data) % 16, 0u) << name;
    const auto* data = static_cast<const uint16_t*>(packed.data);
    std::vector<float> values(static_cast<size_t>(cpu.k));
    int wrong = 0;
    for (int64_t row = 0; row < cpu.n; ++row) {
      ops::unpack_packed_row(cpu, row, values.data());
      for (int64_t k = 0; k < cpu.k; ++k) {
        const uint16_t* place =
            data + ops::tiled_weight_offset(row_of(row), k, packed.k, packed.tile_rows);
        const uint16_t expected = bits_of(values[static_cast<size_t>(k)], activation_);
        EXPECT_TRUE(seen_.insert(place).second || shared_) << name << " " << row << ", " << k;
        if (*place == expected) continue;
        ADD_FAILURE() << name << ", row " << row << " at packed row " << row_of(row) << ", column "
                      << k << ": " << *place << ", expected " << expected;
        if (++wrong == 5) return;
      }
    }
  }

  void vector(const std::string& name, const float* cpu, const float* packed, int64_t count,
              int64_t first = 0, int gate_or_up = -1) {
    ASSERT_EQ(cpu == nullptr, packed == nullptr) << name;
    if (!cpu) return;
    for (int64_t i = 0; i < count; ++i) {
      const float* place =
          packed + (gate_or_up >= 0 ? i / 8 * 16 + gate_or_up * 8 + i % 8 : first + i);
      ASSERT_EQ(*place, cpu[i]) << name << ", value " << i;
      seen_.insert(reinterpret_cast<const uint16_t*>(place));
      seen_.insert(reinterpret_cast<const uint16_t*>(place) + 1);
    }
  }

  void weights(const ModelConfig& config, const Weights& cpu, const Weights& packed) {
    const auto same = [](int64_t row) { return row; };
    matrix("embedding", cpu.embedding, packed.embedding, same);
    shared_ = config.tied_head;
    EXPECT_EQ(packed.head.parts[0].data == packed.embedding.data, config.tied_head);
    EXPECT_EQ(packed.head.parts[0].splits, 1) << "logits are whole sums";
    matrix("head", cpu.head.parts[0], packed.head.parts[0], same);
    shared_ = false;
    vector("final norm", cpu.final_norm.as<float>(), packed.final_norm.as<float>(), config.dim);
    ASSERT_EQ(cpu.layers.size(), packed.layers.size());
    for (size_t i = 0; i < cpu.layers.size(); ++i)
      layer(fmt::format("layer {} ", i), config, cpu.layers[i], packed.layers[i]);
  }

  // Everything in `buffer` that was not compared.
  void rest_is_zero(const std::byte* buffer, uint64_t bytes) const {
    const auto* begin = reinterpret_cast<const uint16_t*>(buffer);
    for (uint64_t i = 0; i < bytes / 2; ++i)
      if (begin[i] != 0 && !seen_.contains(begin + i))
        return void(ADD_FAILURE() << "value " << i << " of " << bytes / 2 << " is " << begin[i]);
  }
  size_t num_compared() const { return seen_.size(); }

 private:
  void layer(const std::string& name, const ModelConfig& config, const LayerWeights& cpu,
             const LayerWeights& packed) {
    const auto same = [](int64_t row) { return row; };
    vector(name + "attention norm", cpu.attn_norm.as<float>(), packed.attn_norm.as<float>(),
           config.dim);
    vector(name + "ffn norm", cpu.ffn_norm.as<float>(), packed.ffn_norm.as<float>(), config.dim);
    vector(name + "q norm", cpu.q_norm.as<float>(), packed.q_norm.as<float>(), config.head_dim);
    vector(name + "k norm", cpu.k_norm.as<float>(), packed.k_norm.as<float>(), config.head_dim);

    ASSERT_EQ(packed.qkv.count, 1);
    const quant::LinearWeight& qkv = packed.qkv.parts[0];
    EXPECT_EQ(qkv.n, config.q_dim() + 2 * config.kv_dim());
    EXPECT_FALSE(qkv.interleaved);
    int64_t first = 0;
    for (const quant::LinearWeight& part : cpu.qkv.parts) {
      matrix(name + "qkv", part, qkv, [&](int64_t row) { return first + row; });
      vector(name + "qkv bias", part.bias, qkv.bias, part.n, first);
      first += part.n;
    }
    matrix(name + "attention out", cpu.attn_out.parts[0], packed.attn_out.parts[0], same);
    vector(name + "attention out bias", cpu.attn_out.parts[0].bias, packed.attn_out.parts[0].bias,
           config.dim);

    ASSERT_EQ(packed.gate_up.count, 1);
    const quant::LinearWeight& gate_up = packed.gate_up.parts[0];
    EXPECT_EQ(gate_up.n, 2 * config.ffn_dim);
    EXPECT_TRUE(gate_up.interleaved);
    EXPECT_EQ(gate_up.splits, 1) << "the product is taken of whole sums";
    for (int part = 0; part < 2; ++part) {
      const quant::LinearWeight& half = cpu.gate_up.parts[static_cast<size_t>(part)];
      matrix(name + "gate and up", half, gate_up,
             [&](int64_t row) { return row / 8 * 16 + part * 8 + row % 8; });
      vector(name + "gate and up bias", half.bias, gate_up.bias, half.n, 0, part);
    }
    matrix(name + "down", cpu.down.parts[0], packed.down.parts[0], same);
    vector(name + "down bias", cpu.down.parts[0].bias, packed.down.parts[0].bias, config.dim);
  }

  const DType activation_;
  bool shared_ = false;  // the head may be compared at the places of the embedding
  std::set<const uint16_t*> seen_;
};

}  // namespace donar::model::test
