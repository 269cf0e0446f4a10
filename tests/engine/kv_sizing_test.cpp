// How many blocks, how long a context, and which numbers a refusal gives.
#include "engine/kv_sizing.h"

#include <gtest/gtest.h>

namespace donar::engine {
namespace {

constexpr uint64_t kBlockBytes = 1000;

TEST(KvSizing, takes_a_quarter_of_memory_or_what_can_be_used) {
  EngineConfig config;
  config.max_num_seqs = 4;
  Result<KvSize> size = size_kv_cache(config, 160, kBlockBytes, 120'000);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 30);  // a quarter
  EXPECT_EQ(size->max_model_len, 160);
  EXPECT_FALSE(size->is_len_reduced);
  size = size_kv_cache(config, 160, kBlockBytes, 10'000'000);
  EXPECT_EQ(size->num_blocks, 40);  // 4 sequences of 10 blocks
}

TEST(KvSizing, configured_bytes_are_taken_as_they_are) {
  EngineConfig config;
  config.kv_cache_bytes = 99'999;
  config.max_num_seqs = 1;
  const Result<KvSize> size = size_kv_cache(config, 160, kBlockBytes, 0);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 99);
}

TEST(KvSizing, an_automatic_length_shrinks_to_the_cache) {
  EngineConfig config;
  const Result<KvSize> size = size_kv_cache(config, 131072, kBlockBytes, 40'000);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 10);
  EXPECT_EQ(size->max_model_len, 160);
  EXPECT_TRUE(size->is_len_reduced);
}

TEST(KvSizing, a_configured_length_that_does_not_fit_is_refused_with_numbers) {
  EngineConfig config;
  config.max_model_len = 3200;
  const Result<KvSize> size = size_kv_cache(config, 131072, kBlockBytes, 40'000);
  ASSERT_FALSE(size.has_value());
  EXPECT_EQ(size.error().code, ErrorCode::kResourceExhausted);
  for (const char* part : {"3200", "200.0 kB", "10.0 kB", "40.0 kB", "160"}) {
    EXPECT_NE(size.error().message.find(part), std::string::npos)
        << part << " in: " << size.error().message;
  }
}

TEST(KvSizing, a_length_beyond_the_models_is_refused_and_so_is_a_cache_without_a_block) {
  EngineConfig config;
  config.max_model_len = 161;
  Result<KvSize> size = size_kv_cache(config, 160, kBlockBytes, 10'000'000);
  ASSERT_FALSE(size.has_value());
  EXPECT_EQ(size.error().param, "max_model_len");
  config.max_model_len = 0;
  EXPECT_FALSE(size_kv_cache(config, 160, kBlockBytes, 3'999).has_value());
  EXPECT_FALSE(size_kv_cache(config, 0, kBlockBytes, 10'000'000).has_value());
}

}  // namespace
}  // namespace donar::engine
