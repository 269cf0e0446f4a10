#include "kv/kv_store.h"

#include "base/check.h"

namespace donar::kv {
namespace {

uint64_t layer_block_bytes(const KvLayerShape& shape) {
  DONAR_CHECK(shape.kv_heads > 0 && shape.head_dim > 0, "{} heads of {}", shape.kv_heads,
              shape.head_dim);
  DONAR_CHECK(
      shape.dtype == DType::kBF16 || shape.dtype == DType::kF16 || shape.dtype == DType::kF32,
      "no kv cache in {}", dtype_name(shape.dtype));
  return uint64_t{2} * static_cast<uint64_t>(shape.kv_heads) * kBlockTokens *
         static_cast<uint64_t>(shape.head_dim) * dtype_size(shape.dtype);
}

}  // namespace

Result<KvStore> KvStore::create(MemoryLedger& ledger, const std::vector<KvLayerShape>& layers,
                                int64_t num_blocks) {
  DONAR_CHECK(num_blocks >= 0, "{} blocks", num_blocks);
  KvStore store;
  store.num_blocks_ = num_blocks;
  for (const KvLayerShape& shape : layers) {
    const uint64_t bytes = layer_block_bytes(shape) * static_cast<uint64_t>(num_blocks);
    Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kKv, bytes);
    if (!buffer) return forward_error(buffer);
    store.layers_.push_back({.data = buffer->data(),
                             .dtype = shape.dtype,
                             .num_blocks = num_blocks,
                             .kv_heads = shape.kv_heads,
                             .head_dim = shape.head_dim});
    store.buffers_.push_back(std::move(*buffer));
  }
  return store;
}

uint64_t KvStore::bytes_per_block(const std::vector<KvLayerShape>& layers) {
  uint64_t bytes = 0;
  for (const KvLayerShape& shape : layers) bytes += layer_block_bytes(shape);
  return bytes;
}

}  // namespace donar::kv
