// Entries land where they say, from pinned memory as from the device's, and nothing else changes.
#include "ops/scatter_ints.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/ops/cuda_device.h"

namespace donar {
namespace {

class CudaScatterInts : public CudaTest {};

TEST_F(CudaScatterInts, changes_the_named_entries_alone) {
  constexpr int64_t kTable = 300'000;
  MemoryLedger host;
  std::mt19937 random(1);
  for (const int64_t count : {1, 127, 128, 129, 5000, 200'000}) {
    std::vector<int32_t> table(static_cast<size_t>(kTable));
    std::iota(table.begin(), table.end(), 0);
    const TensorView on_device = upload(table, {kTable});
    std::vector<int64_t> places(table.begin(), table.end());
    std::ranges::shuffle(places, random);
    Result<Buffer> pinned = Buffer::allocate_pinned(
        host, MemoryUse::kStaging, static_cast<uint64_t>(count) * sizeof(ops::ScatteredInt));
    ASSERT_TRUE(pinned.has_value());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = places[static_cast<size_t>(i)];
      const auto value = static_cast<int32_t>(random());
      pinned->as<ops::ScatteredInt>()[i] = {place, value};
      table[static_cast<size_t>(place)] = value;
    }
    ops::scatter_ints(ex, on_device.as<int32_t>(), pinned->as<ops::ScatteredInt>(), count);
    EXPECT_EQ(download_ints(on_device), table) << count << " entries";
    free_tensors();
  }
  ops::scatter_ints(ex, nullptr, nullptr, 0);
}

}  // namespace
}  // namespace donar
