// Walks the chain of full blocks of one sequence.
#include "kv/block_table.h"

#include <algorithm>

#include "base/check.h"

namespace donar::kv {
namespace {

PrefixKey key_of(ChainId parent, std::span<const int32_t> tokens, int64_t block, uint64_t extra) {
  PrefixKey key;
  key.parent = parent;
  key.extra = block == 0 ? extra : 0;  // later blocks depend on it through their parent
  std::copy_n(tokens.begin() + block * kBlockTokens, kBlockTokens, key.tokens.begin());
  return key;
}

}  // namespace

int64_t BlockTable::adopt_prefix(BlockPool& pool, std::span<const int32_t> tokens,
                                 int64_t max_tokens, uint64_t extra) {
  DONAR_CHECK(blocks_.empty());
  const int64_t max_blocks =
      std::min(max_tokens, static_cast<int64_t>(tokens.size())) / kBlockTokens;
  while (num_published_ < max_blocks) {
    std::optional<BlockPool::CachedBlock> hit =
        pool.find(key_of(tail_, tokens, num_published_, extra));
    if (!hit) break;
    ids_.push_back(hit->block.id());
    blocks_.push_back(std::move(hit->block));
    tail_ = hit->id;
    ++num_published_;
  }
  return num_published_ * kBlockTokens;
}

bool BlockTable::reserve(BlockPool& pool, int64_t num_tokens) {
  const int64_t missing = blocks_for(num_tokens) - num_blocks();
  if (missing > pool.num_free()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    BlockRef block = pool.allocate();
    ids_.push_back(block.id());
    blocks_.push_back(std::move(block));
  }
  return true;
}

void BlockTable::publish(BlockPool& pool, std::span<const int32_t> tokens, int64_t num_computed,
                         uint64_t extra) {
  DONAR_CHECK(num_computed <= capacity_tokens() &&
              num_computed <= static_cast<int64_t>(tokens.size()));
  for (; num_published_ < num_computed / kBlockTokens; ++num_published_) {
    const PrefixKey key = key_of(tail_, tokens, num_published_, extra);
    tail_ = pool.publish(blocks_[static_cast<size_t>(num_published_)], key);
  }
}

void BlockTable::clear() {
  while (!blocks_.empty()) blocks_.pop_back();
  ids_.clear();
  num_published_ = 0;
  tail_ = kChainRoot;
}

}  // namespace donar::kv
