// Reference counts and the free list, an intrusive doubly linked list over block ids.
#include "kv/block_pool.h"

#include "base/check.h"

namespace donar::kv {

BlockRef::~BlockRef() {
  if (pool_) pool_->release(id_);
}

BlockPool::BlockPool(int64_t num_blocks)
    : blocks_(static_cast<size_t>(num_blocks)), index_(num_blocks) {
  DONAR_CHECK(num_blocks > 0 && num_blocks <= INT32_MAX / kBlockTokens, "{} blocks", num_blocks);
  for (int32_t id = 0; id < num_blocks; ++id) push_free_back(id);
}

BlockPool::~BlockPool() {
  DONAR_CHECK(num_free_ == num_blocks(), "{} of {} KV blocks did not come home",
              num_blocks() - num_free_, num_blocks());
}

BlockRef BlockPool::allocate() {
  if (free_front_ < 0) return {};
  const int32_t id = free_front_;
  index_.erase(id);
  return acquire(id);
}

std::optional<BlockPool::CachedBlock> BlockPool::find(const PrefixKey& key) {
  const std::optional<PrefixIndex::Entry> entry = index_.find(key);
  if (!entry) return std::nullopt;
  return CachedBlock{acquire(entry->block), entry->id};
}

ChainId BlockPool::publish(const BlockRef& block, const PrefixKey& key) {
  DONAR_CHECK(block.pool_ == this);
  return index_.insert(key, block.id()).id;
}

void BlockPool::forget_cached() {
  for (int32_t id = 0; id < num_blocks(); ++id) index_.erase(id);
}

BlockRef BlockPool::acquire(int32_t id) {
  if (at(id).references++ == 0) unlink_free(id);
  return BlockRef(this, id);
}

void BlockPool::release(int32_t id) {
  DONAR_CHECK(at(id).references > 0, "block {} is released twice", id);
  if (--at(id).references > 0) return;
  if (index_.contains(id)) {
    push_free_back(id);
  } else {
    push_free_front(id);
  }
}

void BlockPool::push_free_back(int32_t id) {
  at(id).previous = free_back_;
  at(id).next = -1;
  (free_back_ < 0 ? free_front_ : at(free_back_).next) = id;
  free_back_ = id;
  ++num_free_;
}

void BlockPool::push_free_front(int32_t id) {
  at(id).previous = -1;
  at(id).next = free_front_;
  (free_front_ < 0 ? free_back_ : at(free_front_).previous) = id;
  free_front_ = id;
  ++num_free_;
}

void BlockPool::unlink_free(int32_t id) {
  const Block& block = at(id);
  (block.previous < 0 ? free_front_ : at(block.previous).next) = block.next;
  (block.next < 0 ? free_back_ : at(block.next).previous) = block.previous;
  --num_free_;
}

void BlockPool::check_integrity() const {
  int64_t unheld = 0, cached = 0;
  for (int32_t id = 0; id < num_blocks(); ++id) {
    const Block& block = blocks_[static_cast<size_t>(id)];
    DONAR_CHECK(block.references >= 0, "block {} has {} references", id, block.references);
    unheld += block.references == 0;
    cached += index_.contains(id);
  }
  DONAR_CHECK(unheld == num_free_, "{} blocks without holder, {} free", unheld, num_free_);
  DONAR_CHECK(cached == index_.size(), "{} blocks with content, {} entries", cached, index_.size());
  int64_t listed = 0;
  int32_t previous = -1;
  for (int32_t id = free_front_; id >= 0; id = blocks_[static_cast<size_t>(id)].next) {
    const Block& block = blocks_[static_cast<size_t>(id)];
    DONAR_CHECK(block.references == 0, "free block {} is held", id);
    DONAR_CHECK(block.previous == previous, "free list is torn at block {}", id);
    DONAR_CHECK(++listed <= num_free_, "free list is longer than {}", num_free_);
    previous = id;
  }
  DONAR_CHECK(listed == num_free_ && previous == free_back_, "free list has {} of {} blocks",
              listed, num_free_);
}

}  // namespace donar::kv
