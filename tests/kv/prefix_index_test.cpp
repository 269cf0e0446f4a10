// A chain is found by its whole key, and an id that was once given out never names another content.
#include "kv/prefix_index.h"

#include <gtest/gtest.h>

namespace donar::kv {
namespace {

PrefixKey key_of(ChainId parent, int32_t token, uint64_t extra = 0) {
  PrefixKey key;
  key.parent = parent;
  key.tokens.fill(token);
  key.extra = extra;
  return key;
}

TEST(PrefixIndex, finds_by_parent_tokens_and_extra_together) {
  PrefixIndex index(8);
  const PrefixIndex::Entry root = index.insert(key_of(kChainRoot, 1, 9), 0);
  const PrefixIndex::Entry child = index.insert(key_of(root.id, 2), 1);
  ASSERT_TRUE(index.find(key_of(kChainRoot, 1, 9)));
  EXPECT_EQ(index.find(key_of(root.id, 2))->block, 1);
  EXPECT_FALSE(index.find(key_of(kChainRoot, 1)));  // another extra
  EXPECT_FALSE(index.find(key_of(kChainRoot, 2)));  // another parent
  EXPECT_FALSE(index.find(key_of(child.id, 2)));    // likewise
  PrefixKey last_differs = key_of(root.id, 2);
  last_differs.tokens[kBlockTokens - 1] = 3;
  EXPECT_FALSE(index.find(last_differs));
}

TEST(PrefixIndex, the_first_block_with_a_content_keeps_it) {
  PrefixIndex index(4);
  const PrefixIndex::Entry first = index.insert(key_of(kChainRoot, 1), 2);
  const PrefixIndex::Entry second = index.insert(key_of(kChainRoot, 1), 3);
  EXPECT_EQ(second.block, 2);
  EXPECT_EQ(second.id, first.id);
  EXPECT_TRUE(index.contains(2));
  EXPECT_FALSE(index.contains(3));
  EXPECT_EQ(index.size(), 1);
}

TEST(PrefixIndex, the_children_of_an_evicted_block_are_not_found_under_its_successor) {
  PrefixIndex index(4);
  const PrefixIndex::Entry parent = index.insert(key_of(kChainRoot, 1), 0);
  index.insert(key_of(parent.id, 2), 1);
  index.erase(0);
  EXPECT_FALSE(index.find(key_of(kChainRoot, 1)));
  const PrefixIndex::Entry again = index.insert(key_of(kChainRoot, 1), 0);
  EXPECT_NE(again.id, parent.id);
  EXPECT_FALSE(index.find(key_of(again.id, 2)));
}

TEST(PrefixIndex, erasing_a_block_without_entry_does_nothing) {
  PrefixIndex index(2);
  index.insert(key_of(kChainRoot, 1), 0);
  index.erase(1);
  EXPECT_EQ(index.size(), 1);
}

}  // namespace
}  // namespace donar::kv
