// The ledger and the buffers that report to it.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/memory_ledger.h"

namespace donar {
namespace {

TEST(MemoryLedger, refuses_beyond_the_limit_with_needed_and_left) {
  MemoryLedger ledger(1000000);
  ASSERT_TRUE(ledger.reserve(MemoryUse::kWeights, 600000));
  const Result<void> refused = ledger.reserve(MemoryUse::kKv, 500000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(refused.error().message.find("kv need 500.0 kB, but 400.0 kB of 1.0 MB are left"),
            std::string::npos)
      << refused.error().message;
  EXPECT_EQ(ledger.used(MemoryUse::kKv), 0u) << "a refusal takes nothing";
  ASSERT_TRUE(ledger.reserve(MemoryUse::kKv, 400000)) << "exactly to the limit";
  EXPECT_EQ(ledger.total(), 1000000u);
  ledger.release(MemoryUse::kWeights, 600000);
  ledger.release(MemoryUse::kKv, 400000);
  EXPECT_EQ(ledger.total(), 0u);
}

TEST(MemoryLedger, dies_when_bytes_are_missing_or_given_back_twice) {
  EXPECT_DEATH(
      {
        MemoryLedger ledger;
        (void)ledger.reserve(MemoryUse::kStaging, 8);
      },
      "not given back: staging 8 B");
  MemoryLedger ledger;
  EXPECT_DEATH(ledger.release(MemoryUse::kKv, 1), "released");
}

TEST(MemoryLedger, never_passes_the_limit_under_contention) {
  MemoryLedger ledger(100);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        if (ledger.reserve(MemoryUse::kKv, 30)) ledger.release(MemoryUse::kKv, 30);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ledger.total(), 0u);
  EXPECT_TRUE(ledger.reserve(MemoryUse::kKv, 100));
  ledger.release(MemoryUse::kKv, 100);
}

TEST(MemoryLedger, summary_names_what_is_used) {
  MemoryLedger ledger;
  EXPECT_EQ(ledger.summary(), "total 0 B");
  ASSERT_TRUE(ledger.reserve(MemoryUse::kWeights, 98400000));
  ASSERT_TRUE(ledger.reserve(MemoryUse::kWorkspace, 12100000));
  EXPECT_EQ(ledger.summary(), "weights 98.4 MB, workspace 12.1 MB, total 110.5 MB");
  ledger.release(MemoryUse::kWeights, 98400000);
  ledger.release(MemoryUse::kWorkspace, 12100000);
}

TEST(FormatBytes, decimal_units_that_never_show_four_digits_before_the_point) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(999999), "1.0 MB");
  EXPECT_EQ(format_bytes(1234567890), "1.2 GB");
  EXPECT_EQ(format_bytes(uint64_t{5000} * 1000000000000), "5000.0 TB");
}

TEST(HostMemory, is_more_than_nothing_and_less_than_an_exabyte) {
  EXPECT_GT(available_host_memory(), uint64_t{1} << 20);
  EXPECT_LT(available_host_memory(), uint64_t{1} << 60);
}

TEST(Buffer, is_zero_aligned_and_given_back) {
  MemoryLedger ledger;
  for (uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{100001}, uint64_t{5} << 20}) {
    Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kWeights, bytes);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(ledger.used(MemoryUse::kWeights), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % (bytes >= (2 << 20) ? 2 << 20 : 64),
              0u);
    for (uint64_t i = 0; i < bytes; i += 997) ASSERT_EQ(buffer->data()[i], std::byte{0});
    buffer->data()[bytes - 1] = std::byte{1};
  }
  EXPECT_EQ(ledger.total(), 0u);
}

TEST(Buffer, moves_and_an_assignment_gives_the_old_bytes_back) {
  MemoryLedger ledger;
  Buffer a = *Buffer::allocate(ledger, MemoryUse::kKv, 100);
  Buffer b = *Buffer::allocate(ledger, MemoryUse::kKv, 50);
  std::byte* data = a.data();
  b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.size(), 100u);
  EXPECT_EQ(ledger.used(MemoryUse::kKv), 100u);
  Buffer c(std::move(b));
  EXPECT_EQ(c.data(), data);
  c = Buffer();
  EXPECT_EQ(ledger.total(), 0u);
}

TEST(Buffer, of_nothing_and_of_too_much) {
  MemoryLedger limited(1 << 20);
  Result<Buffer> none = Buffer::allocate(limited, MemoryUse::kKv, 0);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->data(), nullptr);
  EXPECT_FALSE(Buffer::allocate(limited, MemoryUse::kKv, 2 << 20));
  MemoryLedger open;
  const Result<Buffer> huge = Buffer::allocate(open, MemoryUse::kKv, uint64_t{1} << 60);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(open.total(), 0u) << "a failed allocation takes nothing";
}

}  // namespace
}  // namespace donar
