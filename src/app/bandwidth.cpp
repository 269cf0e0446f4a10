#include "app/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/clock.h"
#include "tensor/buffer.h"

namespace donar::app {
namespace {

constexpr uint64_t kBufferBytes = uint64_t{512} << 20;
constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
constexpr int kPasses = 6;

// Eight independent sums, so that loads and not additions are the limit.
uint64_t sum(const std::byte* begin, uint64_t bytes) {
  uint64_t lanes[8] = {};
  for (uint64_t at = 0; at + sizeof(lanes) <= bytes; at += sizeof(lanes)) {
    uint64_t words[8];
    std::memcpy(words, begin + at, sizeof(words));
    for (int i = 0; i < 8; ++i) lanes[i] += words[i];
  }
  uint64_t total = 0;
  for (const uint64_t lane : lanes) total += lane;
  return total;
}

}  // namespace

Result<double> measure_read_bandwidth(ThreadPool& pool, MemoryLedger& ledger) {
  const uint64_t bytes = std::max(
      kChunkBytes, std::min(kBufferBytes, available_host_memory() / 4) / kChunkBytes * kChunkBytes);
  Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kStaging, bytes);
  if (!buffer) return forward_error(buffer);
  std::memset(buffer->data(), 1, bytes);  // every page backed by memory of its own
  std::atomic<uint64_t> keep{0};
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const TimePoint begin = Clock::now();
    pool.parallel_for(
        static_cast<int64_t>(bytes / kChunkBytes), /*chunk=*/1, [&](int64_t from, int64_t to) {
          keep.fetch_add(sum(buffer->data() + static_cast<uint64_t>(from) * kChunkBytes,
                             static_cast<uint64_t>(to - from) * kChunkBytes),
                         std::memory_order_relaxed);
        });
    best = std::max(best, static_cast<double>(bytes) / seconds_since(begin));
  }
  if (keep.load() == 0)
    return fail(ErrorCode::kInternal, "the memory read as zeros after it was written");
  return best;
}

}  // namespace donar::app
