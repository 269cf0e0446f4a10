// Ids of KV blocks with reference counts. A block that nobody holds is free, but keeps its content
// findable until it is needed for something else: the least recently used free block goes first.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kv/prefix_index.h"

namespace donar::kv {

class BlockPool;

// One reference to a block; gives it back when destroyed. Move-only; the pool outlives it.
class BlockRef {
 public:
  BlockRef() = default;
  BlockRef(BlockRef&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), id_(std::exchange(other.id_, -1)) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(id_, other.id_);
    return *this;
  }
  ~BlockRef();

  int32_t id() const { return id_; }
  explicit operator bool() const { return pool_ != nullptr; }

 private:
  friend class BlockPool;
  BlockRef(BlockPool* pool, int32_t id) : pool_(pool), id_(id) {}

  BlockPool* pool_ = nullptr;
  int32_t id_ = -1;
};

// Engine thread only.
class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);
  ~BlockPool();  // checks that every block came home
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // A block of unknown content, held once. An empty reference when all blocks are held.
  BlockRef allocate();

  struct CachedBlock {
    BlockRef block;
    ChainId id = kChainRoot;
  };
  // One more reference to the block that holds `key`, if there is one.
  std::optional<CachedBlock> find(const PrefixKey& key);
  // Makes a full, computed block findable and returns its chain id; if another block holds the
  // same, that one's.
  ChainId publish(const BlockRef& block, const PrefixKey& key);
  // Forgets the contents of all blocks; those held are no longer found either.
  void forget_cached();

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t num_free() const { return num_free_; }
  int64_t num_cached() const { return index_.size(); }

  // Walks everything and CHECKs that counts, free list and index agree.
  void check_integrity() const;

 private:
  friend class BlockRef;
  struct Block {
    int32_t references = 0;
    int32_t previous = -1, next = -1;  // in the free list, while references == 0
  };

  void release(int32_t id);
  BlockRef acquire(int32_t id);
  void push_free_back(int32_t id);
  void push_free_front(int32_t id);
  void unlink_free(int32_t id);
  Block& at(int32_t id) { return blocks_[static_cast<size_t>(id)]; }

  std::vector<Block> blocks_;
  PrefixIndex index_;
  // Free blocks in order of reuse: those without findable content first, then cached ones, least
  // recently used first.
  int32_t free_front_ = -1, free_back_ = -1;
  int64_t num_free_ = 0;
};

}  // namespace donar::kv
