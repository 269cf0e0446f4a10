// Blocks have owners, free blocks keep their content until they are needed, and everything comes
// home.
#include "kv/block_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace donar::kv {
namespace {

PrefixKey key_of(ChainId parent, int32_t token) {
  PrefixKey key;
  key.parent = parent;
  key.tokens.fill(token);
  return key;
}

TEST(BlockPool, allocate_gives_every_block_once_and_then_none) {
  BlockPool pool(3);
  std::vector<BlockRef> held;
  std::set<int32_t> ids;
  for (int i = 0; i < 3; ++i) {
    held.push_back(pool.allocate());
    ASSERT_TRUE(held.back());
    ids.insert(held.back().id());
  }
  EXPECT_EQ(ids, (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(pool.num_free(), 0);
  EXPECT_FALSE(pool.allocate());
  pool.check_integrity();
  held.pop_back();
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_TRUE(pool.allocate());
}

TEST(BlockPool, moving_a_reference_keeps_one_owner) {
  BlockPool pool(2);
  BlockRef a = pool.allocate();
  const int32_t id = a.id();
  BlockRef b = std::move(a);
  EXPECT_EQ(b.id(), id);
  EXPECT_EQ(pool.num_free(), 1);
  b = BlockRef();
  EXPECT_EQ(pool.num_free(), 2);
  pool.check_integrity();
}

TEST(BlockPool, a_published_block_is_found_while_held_and_when_free) {
  BlockPool pool(2);
  BlockRef block = pool.allocate();
  const int32_t id = block.id();
  const ChainId chain = pool.publish(block, key_of(kChainRoot, 7));
  {
    const auto hit = pool.find(key_of(kChainRoot, 7));
    ASSERT_TRUE(hit);
    EXPECT_EQ(hit->block.id(), id);
    EXPECT_EQ(hit->id, chain);
  }
  block = BlockRef();
  EXPECT_EQ(pool.num_free(), 2);
  const auto hit = pool.find(key_of(kChainRoot, 7));
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->block.id(), id);
  EXPECT_EQ(pool.num_free(), 1);
  pool.check_integrity();
}

TEST(BlockPool, a_block_is_home_only_when_its_last_reference_is) {
  BlockPool pool(1);
  BlockRef block = pool.allocate();
  pool.publish(block, key_of(kChainRoot, 1));
  auto second = pool.find(key_of(kChainRoot, 1));
  block = BlockRef();
  EXPECT_EQ(pool.num_free(), 0);
  second.reset();
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPool, blocks_without_content_are_reused_first_and_then_the_least_recently_used) {
  BlockPool pool(3);
  std::vector<BlockRef> held;
  for (int32_t i = 0; i < 3; ++i) held.push_back(pool.allocate());
  const int32_t empty = held[2].id();
  pool.publish(held[0], key_of(kChainRoot, 0));
  pool.publish(held[1], key_of(kChainRoot, 1));
  held.clear();
  (void)pool.find(key_of(kChainRoot, 0));  // used again, so 1 is the oldest now

  BlockRef first = pool.allocate();
  EXPECT_EQ(first.id(), empty);
  BlockRef second = pool.allocate();
  EXPECT_FALSE(pool.find(key_of(kChainRoot, 1)));
  EXPECT_TRUE(pool.find(key_of(kChainRoot, 0)));
  BlockRef third = pool.allocate();
  EXPECT_FALSE(pool.find(key_of(kChainRoot, 0)));
  EXPECT_EQ(pool.num_cached(), 0);
}

TEST(BlockPool, forget_cached_loses_contents_but_no_blocks) {
  BlockPool pool(2);
  BlockRef held = pool.allocate();
  pool.publish(held, key_of(kChainRoot, 3));
  pool.forget_cached();
  EXPECT_FALSE(pool.find(key_of(kChainRoot, 3)));
  EXPECT_EQ(pool.num_free(), 1);
  pool.check_integrity();
}

TEST(BlockPool, random_use_keeps_counts_and_lists_in_step) {
  std::mt19937 random(5);
  BlockPool pool(12);
  std::vector<BlockRef> held;
  for (int step = 0; step < 5000; ++step) {
    const int32_t token = static_cast<int32_t>(random() % 30);
    switch (random() % 4) {
      case 0:
        if (BlockRef block = pool.allocate()) {
          if (random() % 2) pool.publish(block, key_of(kChainRoot, token));
          held.push_back(std::move(block));
        }
        break;
      case 1:
        if (auto hit = pool.find(key_of(kChainRoot, token))) held.push_back(std::move(hit->block));
        break;
      case 2:
        if (!held.empty()) {
          std::swap(held[random() % held.size()], held.back());
          held.pop_back();
        }
        break;
      default:
        if (random() % 100 == 0) pool.forget_cached();
    }
    pool.check_integrity();
  }
  held.clear();
  EXPECT_EQ(pool.num_free(), 12);
}

TEST(BlockPoolDeathTest, a_pool_that_misses_a_block_says_so) {
  EXPECT_DEATH(
      {
        BlockRef escaped;
        {
          BlockPool pool(2);
          escaped = pool.allocate();
        }
      },
      "1 of 2 KV blocks did not come home");
}

}  // namespace
}  // namespace donar::kv
