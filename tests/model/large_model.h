// A checkpoint that does not fit one staging slot, with values that tell where they belong, and
// what the page cache holds of it.
#pragma once

#include <sys/mman.h>

#include "tests/model/test_files.h"

namespace donar::model::test {

constexpr uint64_t kStagingBound = uint64_t{256} << 20;  // what a load takes beside the weights

// A one-layer llama in BF16 whose embedding alone needs several extents. Value (row, column) of
// tensor t depends on all three.
struct LargeModel {
  static constexpr int64_t kVocab = 40000, kDim = 512, kFfn = 256;

  static uint16_t value(size_t tensor, int64_t index) {
    const uint64_t hash = (static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15u + tensor) >> 40;
    return static_cast<uint16_t>(0x3c00u | (hash & 0x83ffu));
  }

  // `header_padding` of 1 makes every element unaligned in the file.
  static void write(const fs::path& directory, size_t header_padding) {
    const std::vector<std::pair<std::string, std::vector<int64_t>>> tensors = {
        {"model.embed_tokens.weight", {kVocab, kDim}},
        {"model.layers.0.input_layernorm.weight", {kDim}},
        {"model.layers.0.self_attn.q_proj.weight", {kDim, kDim}},
        {"model.layers.0.self_attn.k_proj.weight", {128, kDim}},
        {"model.layers.0.self_attn.v_proj.weight", {128, kDim}},
        {"model.layers.0.self_attn.o_proj.weight", {kDim, kDim}},
        {"model.layers.0.post_attention_layernorm.weight", {kDim}},
        {"model.layers.0.mlp.gate_proj.weight", {kFfn, kDim}},
        {"model.layers.0.mlp.up_proj.weight", {kFfn, kDim}},
        {"model.layers.0.mlp.down_proj.weight", {kDim, kFfn}},
        {"model.norm.weight", {kDim}}};
    std::string header = "{", data;
    for (size_t t = 0; t < tensors.size(); ++t) {
      const auto& [name, shape] = tensors[t];
      int64_t count = 1;
      for (const int64_t dim : shape) count *= dim;
      header += fmt::format(R"({}"{}":{{"dtype":"BF16","shape":{},"data_offsets":[{},{}]}})",
                            t ? "," : "", name, shape_text(shape), data.size(),
                            data.size() + static_cast<size_t>(count) * 2);
      for (int64_t i = 0; i < count; ++i) append(data, value(t, i));
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8 + header_padding, ' ');
    std::ofstream(directory / "model.safetensors", std::ios::binary) << safetensors(header, data);
    std::ofstream(directory / "config.json")
        << R"({"architectures":["LlamaForCausalLM"],"hidden_size":512,"intermediate_size":256,"num_hidden_layers":1,
               "num_attention_heads":8,"num_key_value_heads":2,"vocab_size":40000,"tie_word_embeddings":true})";
  }
};

// Share of the file's pages that are in the page cache.
inline double resident_share(const fs::path& path) {
  const Result<File> file = File::open(path);
  EXPECT_TRUE(file.has_value());
  void* map = ::mmap(nullptr, file->size(), PROT_READ, MAP_SHARED, file->fd(), 0);
  EXPECT_NE(map, MAP_FAILED);
  std::vector<unsigned char> pages((file->size() + 4095) / 4096);
  EXPECT_EQ(::mincore(map, file->size(), pages.data()), 0);
  ::munmap(map, file->size());
  size_t resident = 0;
  for (const unsigned char page : pages) resident += page & 1;
  return static_cast<double>(resident) / static_cast<double>(pages.size());
}

}  // namespace donar::model::test
