// How many blocks, how long a context, and which numbers a refusal gives.
#include "engine/kv_sizing.h"

#include <gtest/gtest.h>

namespace donar::engine {
namespace {

constexpr uint64_t kBlockBytes = 1000;

// The CPU: a quarter of what is available, no more than can be used.
Result<KvSize> size_on_cpu(const EngineConfig& config, int64_t claimed_len,
                           uint64_t available_bytes) {
  KvBudget budget;
  budget.limit.bytes = available_bytes;
  budget.share = 0.25;
  budget.fill = false;
  return size_kv_cache(with_defaults(config, DeviceType::kCpu), claimed_len, kBlockBytes, budget,
                       [](int64_t) { return uint64_t{0}; });
}

// A device with 1 MB of which 900 kB may be taken, 200 kB of them by weights. A token of context
// takes 10 bytes of tables beside 50 kB of activations.
constexpr uint64_t kTotal = 1'000'000;
constexpr auto workspace = [](int64_t len) { return 50'000 + 10 * static_cast<uint64_t>(len); };

Result<KvSize> size_on_device(const EngineConfig& config, int64_t claimed_len,
                              uint64_t weight_bytes = 200'000) {
  KvBudget budget;
  budget.limit = memory_limit(kTotal, kTotal, 0.9);
  budget.weight_bytes = weight_bytes;
  return size_kv_cache(with_defaults(config, DeviceType::kCuda), claimed_len, kBlockBytes, budget,
                       workspace);
}

void expect_says(const Result<KvSize>& size, std::initializer_list<const char*> parts) {
  ASSERT_FALSE(size.has_value());
  for (const char* part : parts)
    EXPECT_NE(size.error().message.find(part), std::string::npos)
        << part << " in: " << size.error().message;
}

TEST(KvSizing, takes_a_quarter_of_memory_or_what_can_be_used) {
  EngineConfig config;
  config.max_num_seqs = 4;
  Result<KvSize> size = size_on_cpu(config, 160, 120'000);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 30);  // a quarter
  EXPECT_EQ(size->max_model_len, 160);
  EXPECT_FALSE(size->is_len_reduced);
  size = size_on_cpu(config, 160, 10'000'000);
  EXPECT_EQ(size->num_blocks, 40);  // 4 sequences of 10 blocks
}

TEST(KvSizing, configured_bytes_are_taken_as_they_are) {
  EngineConfig config;
  config.kv_cache_bytes = 99'999;
  config.max_num_seqs = 1;
  const Result<KvSize> size = size_on_cpu(config, 160, 120'000);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 99);
}

TEST(KvSizing, an_automatic_length_shrinks_to_the_cache) {
  EngineConfig config;
  const Result<KvSize> size = size_on_cpu(config, 131072, 40'000);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 10);
  EXPECT_EQ(size->max_model_len, 160);
  EXPECT_TRUE(size->is_len_reduced);
}

TEST(KvSizing, a_configured_length_that_does_not_fit_is_refused_with_numbers) {
  EngineConfig config;
  config.max_model_len = 3200;
  const Result<KvSize> size = size_on_cpu(config, 131072, 40'000);
  expect_says(size, {"3200", "200.0 kB", "10.0 kB", "40.0 kB", "25 %", "--max-model-len 160 fits"});
  EXPECT_EQ(size.error().code, ErrorCode::kResourceExhausted);
}

TEST(KvSizing, a_length_beyond_the_models_is_refused_and_so_is_a_cache_without_a_block) {
  EngineConfig config;
  config.max_model_len = 161;
  Result<KvSize> size = size_on_cpu(config, 160, 10'000'000);
  ASSERT_FALSE(size.has_value());
  EXPECT_EQ(size.error().param, "max_model_len");
  config.max_model_len = 0;
  EXPECT_FALSE(size_on_cpu(config, 160, 3'999).has_value());
  EXPECT_FALSE(size_on_cpu(config, 0, 10'000'000).has_value());
}

TEST(MemoryLimit, is_a_share_of_the_whole_less_what_others_hold) {
  EXPECT_EQ(memory_limit(1000, 1000, 0.9).bytes, 900u);
  EXPECT_EQ(memory_limit(1000, 700, 0.9).bytes, 600u);
  EXPECT_EQ(memory_limit(1000, 50, 0.9).bytes, 0u);  // others hold more than the tenth
  EXPECT_EQ(memory_limit(1000, 700, 0.0).bytes, 700u);
  EXPECT_EQ(memory_limit(1000, 1200, 1.0).bytes,
            1000u);  // MemAvailable may pass the device's total
  const std::string reason = memory_limit(85'000'000'000, 84'400'000'000, 0.9).reason;
  EXPECT_EQ(reason, "90 % of 85.0 GB, less 600.0 MB in use by others");
}

TEST(KvSizing, a_device_gives_the_cache_all_that_weights_and_workspace_leave) {
  const Result<KvSize> size = size_on_device({}, 1600);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->max_model_len, 1600);
  EXPECT_EQ(size->num_blocks, (900 - 200 - 50 - 16));  // kB, one a block
  EXPECT_FALSE(size->is_len_reduced);
}

TEST(KvSizing, the_longest_context_counts_the_workspace_that_it_takes_itself) {
  EngineConfig config;
  for (const int64_t len : {int64_t{0}, int64_t{-1}}) {
    config.max_model_len = len;
    const Result<KvSize> size = size_on_device(config, 131072);
    ASSERT_TRUE(size.has_value());
    // A block of 16 tokens takes 1,000 + 160 bytes of the 650 kB left: 560 blocks.
    EXPECT_EQ(size->max_model_len, 560 * 16);
    EXPECT_EQ(size->num_blocks, (650'000 - 160 * 560) / 1000);
    EXPECT_TRUE(size->is_len_reduced);
  }
  config.max_model_len = 560 * 16;
  EXPECT_TRUE(size_on_device(config, 131072).has_value());
  config.max_model_len = 560 * 16 + 1;
  EXPECT_FALSE(size_on_device(config, 131072).has_value());
}

TEST(KvSizing, a_context_that_a_device_cannot_hold_is_refused_with_what_it_needs_and_what_fits) {
  EngineConfig config;
  config.max_model_len = 16000;
  const Result<KvSize> size = size_on_device(config, 131072);
  // 200 kB + 50 kB + 160 kB + 1,000 blocks
  expect_says(size, {"16000 tokens", "needs 1.4 MB", "weights 200.0 kB", "workspace 210.0 kB",
                     "one sequence 1.0 MB", "900.0 kB available", "90 % of 1.0 MB",
                     "--max-model-len 8960 fits"});
  EXPECT_EQ(size.error().code, ErrorCode::kResourceExhausted);
  ASSERT_EQ(560 * 16, 8960);
}

TEST(KvSizing, weights_that_leave_no_room_for_a_block_are_refused_whatever_the_length) {
  for (const int64_t len : {-1, 0, 16}) {
    EngineConfig config;
    config.max_model_len = len;
    expect_says(size_on_device(config, 131072, 849'000), {"900.0 kB available", "smaller model"});
    expect_says(size_on_device(config, 131072, 2'000'000), {"weights 2.0 MB", "smaller model"});
  }
}

TEST(KvSizing, a_cache_of_a_given_size_has_to_fit_and_to_hold_a_sequence) {
  EngineConfig config;
  config.kv_cache_bytes = 600'000;
  Result<KvSize> size = size_on_device(config, 1600);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 600);
  config.kv_cache_bytes = 700'000;
  expect_says(size_on_device(config, 1600), {"700.0 kB", "needs 966.0 kB", "900.0 kB available",
                                             "--kv-cache-memory-bytes 634000"});
  config.kv_cache_bytes = 90'000;
  config.max_model_len = 1600;
  expect_says(size_on_device(config, 1600),
              {"one sequence 100.0 kB", "set to 90.0 kB", "--max-model-len 1440 fits"});
  config.max_model_len = -1;
  size = size_on_device(config, 1600);
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->max_model_len, 1440);
  EXPECT_EQ(size->num_blocks, 90);
}

TEST(KvSizing, slots_stay_32_bit_however_large_the_memory) {
  KvBudget budget;
  budget.limit.bytes = uint64_t{1} << 60;
  const Result<KvSize> size = size_kv_cache(with_defaults({}, DeviceType::kCuda), 1600, kBlockBytes,
                                            budget, [](int64_t) { return uint64_t{0}; });
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, ((int64_t{1} << 31) - 1) / 16);
}

}  // namespace
}  // namespace donar::engine
