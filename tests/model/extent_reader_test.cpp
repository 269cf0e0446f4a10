// Reading ahead with several threads: extents come in order and unharmed, slots are not overwritten
// before they are released, an error arrives where it belongs, and leaving early leaves nothing.
#include "model/extent_reader.h"

#include <gtest/gtest.h>

#include "tests/model/test_files.h"

namespace donar::model::test {
namespace {

constexpr uint64_t kFileBytes = 300'000;
std::byte byte_at(uint64_t file, uint64_t offset) {
  return static_cast<std::byte>((offset * 2654435761u + file * 97) >> 16);
}

// Two files in extents of many lengths that begin anywhere.
struct Files {
  explicit Files(const TempDir& dir) {
    for (uint64_t f = 0; f < 2; ++f) {
      std::string bytes(kFileBytes, '\0');
      for (uint64_t i = 0; i < kFileBytes; ++i) bytes[i] = static_cast<char>(byte_at(f, i));
      Result<File> file = File::open(dir.write(fmt::format("{}.bin", f), bytes));
      EXPECT_TRUE(file.has_value());
      files.push_back(std::move(*file));
      uint64_t begin = 1;
      for (uint64_t i = 0; begin < kFileBytes; ++i) {
        const uint64_t end = std::min(kFileBytes, begin + 1 + i * 1789 % kMaxBytes);
        extents.push_back({static_cast<int>(f), begin, end});
        begin = end + i % 3;
      }
    }
  }
  static constexpr uint64_t kMaxBytes = 9'000;
  std::vector<File> files;
  std::vector<Extent> extents;
};

void expect_bytes(const Extent& extent, const std::byte* bytes) {
  for (uint64_t i = extent.begin; i < extent.end; ++i)
    ASSERT_EQ(bytes[i - extent.begin], byte_at(static_cast<uint64_t>(extent.file), i))
        << "file " << extent.file << ", byte " << i;
}

TEST(ExtentReader, gives_every_extent_in_order_and_keeps_it_until_it_is_released) {
  const TempDir dir;
  Files given(dir);
  for (const auto& [threads, slots, held] :
       {std::tuple(1, 3, 1), std::tuple(4, 7, 3), std::tuple(8, 8, 8), std::tuple(3, 200, 100)}) {
    MemoryLedger ledger;
    auto reader = ExtentReader::start(ledger, given.files, given.extents, Files::kMaxBytes,
                                      {.threads = threads, .slots = slots});
    ASSERT_OK(reader);
    EXPECT_EQ(ledger.used(MemoryUse::kStaging),
              ExtentReader::staging_bytes(Files::kMaxBytes, slots));
    std::vector<const std::byte*> places;
    for (size_t i = 0; i < given.extents.size(); ++i) {
      const auto oldest = i + 1 - std::min<size_t>(i + 1, static_cast<size_t>(held));
      (*reader)->release(oldest);
      const Result<const std::byte*> bytes = (*reader)->next();
      ASSERT_OK(bytes);
      places.push_back(*bytes);
      for (size_t j = oldest; j <= i; ++j) expect_bytes(given.extents[j], places[j]);
    }
    uint64_t total = 0;
    for (const Extent& extent : given.extents) total += extent.end - extent.begin;
    EXPECT_EQ((*reader)->direct_bytes() + (*reader)->cached_bytes(), total);
    reader->reset();
    EXPECT_EQ(ledger.total(), 0u);
  }
}

TEST(ExtentReader, an_error_comes_after_all_extents_before_it) {
  const TempDir dir;
  Files given(dir);
  const size_t bad = given.extents.size() - 5;
  given.extents[bad].begin = kFileBytes - 10;
  given.extents[bad].end = kFileBytes + 5000;
  for (int round = 0; round < 20; ++round) {
    MemoryLedger ledger;
    auto reader = ExtentReader::start(ledger, given.files, given.extents, Files::kMaxBytes,
                                      {.threads = 4, .slots = 6});
    ASSERT_OK(reader);
    for (size_t i = 0; i < bad; ++i) {
      const Result<const std::byte*> bytes = (*reader)->next();
      ASSERT_OK(bytes);
      expect_bytes(given.extents[i], *bytes);
      (*reader)->release(i + 1);
    }
    EXPECT_ERROR_SAYS((*reader)->next(), "1.bin");
  }
}

TEST(ExtentReader, may_be_left_at_any_time) {
  const TempDir dir;
  const Files given(dir);
  for (size_t taken = 0; taken < 6; ++taken) {
    MemoryLedger ledger;
    auto reader = ExtentReader::start(ledger, given.files, given.extents, Files::kMaxBytes,
                                      {.threads = 4, .slots = 6});
    ASSERT_OK(reader);
    for (size_t i = 0; i < taken; ++i) ASSERT_OK((*reader)->next());
    reader->reset();
    EXPECT_EQ(ledger.total(), 0u);
  }
}

}  // namespace
}  // namespace donar::model::test
