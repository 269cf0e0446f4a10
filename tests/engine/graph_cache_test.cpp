#include "engine/graph_cache.h"

#include <gtest/gtest.h>

#include <vector>

namespace donar::engine {
namespace {

TEST(GraphCacheSizes, are_dense_where_padding_costs_and_end_at_the_limit) {
  EXPECT_EQ(GraphCache::sizes_up_to(0), std::vector<int64_t>{});
  EXPECT_EQ(GraphCache::sizes_up_to(1), std::vector<int64_t>{1});
  EXPECT_EQ(GraphCache::sizes_up_to(6), (std::vector<int64_t>{1, 2, 4, 6}));
  EXPECT_EQ(GraphCache::sizes_up_to(33), (std::vector<int64_t>{1, 2, 4, 8, 16, 24, 32, 33}));
  const std::vector<int64_t> all = GraphCache::sizes_up_to(256);
  EXPECT_EQ(all.size(), 23u);
  EXPECT_EQ(all.back(), 256);
  for (size_t i = 1; i < all.size(); ++i)
    EXPECT_LE(all[i] - all[i - 1], all[i - 1] < 8 ? 4 : all[i - 1] < 64 ? 8 : 16);
}

}  // namespace
}  // namespace donar::engine
