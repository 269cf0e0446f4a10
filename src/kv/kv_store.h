// Where keys and values live: one buffer per layer, [block][k|v][kv_head][16 tokens][head_dim]. On
// CUDA the kernels order the bytes within a head of a block themselves where head_dim is a multiple
// of 64 (ops/cuda/paged_attention_layout.h).
// Built from a list of layer shapes.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/dtype.h"

namespace donar::kv {

inline constexpr int kBlockTokens = 16;

struct KvLayerShape {
  int kv_heads = 0;
  int head_dim = 0;
  int window = 0;              // keys that a query can see; 0: all
  DType dtype = DType::kBF16;  // kBF16, kF16 or kF32
};

// One layer as an op sees it.
struct KvLayer {
  void* data = nullptr;  // [num_blocks][2][kv_heads][kBlockTokens][head_dim]
  DType dtype = DType::kBF16;
  int64_t num_blocks = 0;
  int kv_heads = 0;
  int head_dim = 0;

  int64_t head_elements() const {
    return int64_t{kBlockTokens} * head_dim;
  }  // one head of one block
  int64_t block_elements() const { return 2 * kv_heads * head_elements(); }
  // Element offset of key (value: is_value) of token `offset` in `block`.
  int64_t index(int64_t block, bool is_value, int head, int offset) const {
    return block * block_elements() + (int64_t{is_value} * kv_heads + head) * head_elements() +
           int64_t{offset} * head_dim;
  }
};

class KvStore {
 public:
  // kResourceExhausted if the ledger refuses. Block ids run from 0 to num_blocks - 1.
  static Result<KvStore> create(MemoryLedger& ledger, const std::vector<KvLayerShape>& layers,
                                int64_t num_blocks);

  const KvLayer& layer(int i) const { return layers_[static_cast<size_t>(i)]; }
  int num_layers() const { return static_cast<int>(layers_.size()); }
  int64_t num_blocks() const { return num_blocks_; }

  static uint64_t bytes_per_block(const std::vector<KvLayerShape>& layers);

 private:
  std::vector<Buffer> buffers_;
  std::vector<KvLayer> layers_;
  int64_t num_blocks_ = 0;
};

}  // namespace donar::kv
