// A sequence's blocks: room, published prefixes, and what a second sequence finds of them.
#include "kv/block_table.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace donar::kv {
namespace {

std::vector<int32_t> tokens_from(int32_t first, size_t count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

std::vector<int32_t> ids_of(const BlockTable& table) {
  return {table.ids().begin(), table.ids().end()};
}

TEST(BlockTable, reserve_takes_whole_blocks_and_nothing_when_they_do_not_suffice) {
  BlockPool pool(3);
  BlockTable table;
  EXPECT_TRUE(table.reserve(pool, 0));
  EXPECT_EQ(table.num_blocks(), 0);
  EXPECT_TRUE(table.reserve(pool, 1));
  EXPECT_TRUE(table.reserve(pool, 16));
  EXPECT_EQ(table.num_blocks(), 1);
  EXPECT_TRUE(table.reserve(pool, 17));
  EXPECT_EQ(table.num_blocks(), 2);
  EXPECT_FALSE(table.reserve(pool, 49));
  EXPECT_EQ(table.num_blocks(), 2);
  EXPECT_TRUE(table.reserve(pool, 48));
  table.clear();
  EXPECT_EQ(pool.num_free(), 3);
}

TEST(BlockTable, a_second_table_adopts_the_full_blocks_of_a_shared_prefix) {
  BlockPool pool(8);
  const std::vector<int32_t> tokens = tokens_from(0, 40);
  BlockTable first, second;
  ASSERT_TRUE(first.reserve(pool, 40));
  first.publish(pool, tokens, 40, 0);
  EXPECT_EQ(pool.num_cached(), 2);  // the third block is not full

  std::vector<int32_t> other = tokens;
  other[35] = 99;
  EXPECT_EQ(second.adopt_prefix(pool, other, 39, 0), 32);
  EXPECT_EQ(ids_of(second), (std::vector<int32_t>{first.ids()[0], first.ids()[1]}));
  ASSERT_TRUE(second.reserve(pool, 40));
  EXPECT_NE(second.ids()[2], first.ids()[2]);
}

TEST(BlockTable, adoption_stops_at_the_limit_and_at_the_first_difference) {
  BlockPool pool(8);
  const std::vector<int32_t> tokens = tokens_from(0, 48);
  BlockTable first;
  ASSERT_TRUE(first.reserve(pool, 48));
  first.publish(pool, tokens, 48, 0);
  {
    BlockTable table;
    EXPECT_EQ(table.adopt_prefix(pool, tokens, 47, 0),
              32);  // a full hit leaves the last token to compute
  }
  {
    BlockTable table;
    std::vector<int32_t> other = tokens;
    other[16] = 99;  // what follows is equal again, but has another history
    EXPECT_EQ(table.adopt_prefix(pool, other, 47, 0), 16);
  }
  BlockTable table;
  EXPECT_EQ(table.adopt_prefix(pool, tokens, 15, 0), 0);
}

TEST(BlockTable, another_salt_finds_nothing) {
  BlockPool pool(4);
  const std::vector<int32_t> tokens = tokens_from(0, 32);
  BlockTable first;
  ASSERT_TRUE(first.reserve(pool, 32));
  first.publish(pool, tokens, 32, /*extra=*/1);
  BlockTable table;
  EXPECT_EQ(table.adopt_prefix(pool, tokens, 32, /*extra=*/2), 0);
  EXPECT_EQ(table.adopt_prefix(pool, tokens, 32, /*extra=*/1), 32);
}

TEST(BlockTable, publishing_goes_on_where_it_stopped_also_behind_another_tables_blocks) {
  BlockPool pool(8);
  const std::vector<int32_t> tokens = tokens_from(0, 64);
  BlockTable a, b;  // both compute the same at the same time
  ASSERT_TRUE(a.reserve(pool, 64));
  ASSERT_TRUE(b.reserve(pool, 64));
  a.publish(pool, tokens, 16, 0);
  b.publish(pool, tokens, 40, 0);  // first block known, second new
  a.publish(pool, tokens, 64, 0);  // second known, third and fourth new
  EXPECT_EQ(pool.num_cached(), 4);
  BlockTable reader;
  EXPECT_EQ(reader.adopt_prefix(pool, tokens, 64, 0), 64);
  EXPECT_EQ(ids_of(reader), (std::vector<int32_t>{a.ids()[0], b.ids()[1], a.ids()[2], a.ids()[3]}));
}

TEST(BlockTable, the_end_of_a_released_prompt_is_evicted_before_its_beginning) {
  BlockPool pool(4);
  const std::vector<int32_t> tokens = tokens_from(0, 64);
  {
    BlockTable table;
    ASSERT_TRUE(table.reserve(pool, 64));
    table.publish(pool, tokens, 64, 0);
  }
  BlockTable other;
  ASSERT_TRUE(other.reserve(pool, 16));
  BlockTable reader;
  EXPECT_EQ(reader.adopt_prefix(pool, tokens, 64, 0), 48);
}

TEST(BlockTable, a_cleared_table_starts_a_new_chain) {
  BlockPool pool(4);
  const std::vector<int32_t> tokens = tokens_from(0, 32), others = tokens_from(100, 32);
  BlockTable table;
  ASSERT_TRUE(table.reserve(pool, 32));
  table.publish(pool, tokens, 32, 0);
  table.clear();
  ASSERT_TRUE(table.reserve(pool, 32));
  table.publish(pool, others, 32, 0);
  BlockTable reader;
  EXPECT_EQ(reader.adopt_prefix(pool, others, 32, 0), 32);
}

}  // namespace
}  // namespace donar::kv
