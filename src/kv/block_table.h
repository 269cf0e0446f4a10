// The blocks of one sequence, in order of position: how it takes them, finds them in the prefix
// cache and publishes them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/block_pool.h"

namespace donar::kv {

inline constexpr int64_t blocks_for(int64_t num_tokens) {
  return (num_tokens + kBlockTokens - 1) / kBlockTokens;
}

// Engine thread only. A block that other tables may read is never written: only full blocks are
// published, and a prefix is adopted in full blocks.
class BlockTable {
 public:
  BlockTable() = default;
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  ~BlockTable() { clear(); }

  // Takes the cached blocks that begin `tokens`, at most `max_tokens` tokens of them. The table
  // must be empty. Returns how many tokens they hold. `extra` goes into the first block's key.
  int64_t adopt_prefix(BlockPool& pool, std::span<const int32_t> tokens, int64_t max_tokens,
                       uint64_t extra);

  // Makes room for `num_tokens` tokens in all. False when the pool has too few free blocks; nothing
  // is taken then.
  bool reserve(BlockPool& pool, int64_t num_tokens);

  // Publishes the blocks that the first `num_computed` of `tokens` fill, as far as that has not
  // happened.
  void publish(BlockPool& pool, std::span<const int32_t> tokens, int64_t num_computed,
               uint64_t extra);

  // Gives all blocks back, last first, so that the beginnings of prompts stay cached longest.
  void clear();

  std::span<const int32_t> ids() const { return ids_; }
  int64_t num_blocks() const { return static_cast<int64_t>(ids_.size()); }
  int64_t capacity_tokens() const { return num_blocks() * kBlockTokens; }

 private:
  std::vector<BlockRef> blocks_;
  std::vector<int32_t> ids_;   // of blocks_, as the device reads them
  int64_t num_published_ = 0;  // blocks, from the start, that are in the chain
  ChainId tail_ = kChainRoot;  // chain id of the last of them
};

}  // namespace donar::kv
