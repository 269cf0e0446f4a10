#include "app/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <numeric>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "app/cuda_bandwidth.h"
#include "base/check.h"
#include "base/clock.h"
#include "tensor/buffer.h"
#include "tensor/exec.h"

namespace donar::app {
namespace {

constexpr uint64_t kBufferBytes = uint64_t{512} << 20;
constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
constexpr int kPasses = 6;
constexpr uint64_t kCudaBufferBytes = uint64_t{2} << 30;
constexpr int kReadsOfPass = 10;  // enqueued together, so that launches cost nothing

// Two streams, each asked for 12 lines ahead: of 1, 2 and 4 streams and many distances the fastest
// on a Sapphire Rapids VM, where one stream reaches a tenth less.
constexpr uint64_t kLine = 64;
constexpr uint64_t kLinesAhead = 12;
constexpr uint64_t kLinesAtOnce = 4;  // of a stream

// Both read [begin, begin + bytes), bytes a multiple of 512. Independent sums, so that loads and
// not additions are the limit.
uint64_t sum(const std::byte* begin, uint64_t bytes) {
  uint64_t lanes[kLine / sizeof(uint64_t)] = {};
  const uint64_t half = bytes / 2;
  for (uint64_t at = 0; at < half; at += kLine) {
    for (uint64_t stream = 0; stream < 2; ++stream) {
      const std::byte* line = begin + stream * half + at;
      __builtin_prefetch(line + kLinesAhead * kLine, 0, 2);
      uint64_t words[std::size(lanes)];
      std::memcpy(words, line, sizeof(words));
      for (size_t i = 0; i < std::size(lanes); ++i) lanes[i] += words[i];
    }
  }
  return std::accumulate(std::begin(lanes), std::end(lanes), uint64_t{0});
}

#if defined(__x86_64__)
// A line at a time: a tenth more than 16 bytes at a time reach.
__attribute__((target("avx512f"))) uint64_t sum_avx512(const std::byte* begin, uint64_t bytes) {
  __m512i lanes[2 * kLinesAtOnce] = {};
  const uint64_t half = bytes / 2;
  for (uint64_t at = 0; at < half; at += kLinesAtOnce * kLine) {
    for (uint64_t stream = 0; stream < 2; ++stream) {
      for (uint64_t i = 0; i < kLinesAtOnce; ++i) {
        const std::byte* line = begin + stream * half + at + i * kLine;
        __builtin_prefetch(line + kLinesAhead * kLine, 0, 2);
        __m512i& lane = lanes[stream * kLinesAtOnce + i];
        lane = _mm512_add_epi64(lane, _mm512_loadu_si512(line));
      }
    }
  }
  uint64_t total = 0;
  for (const __m512i& lane : lanes) {
    alignas(64) uint64_t words[8];
    _mm512_store_si512(words, lane);
    total += std::accumulate(std::begin(words), std::end(words), uint64_t{0});
  }
  return total;
}
#endif

using Sum = uint64_t (*)(const std::byte* begin, uint64_t bytes);

Sum widest_sum() {
#if defined(__x86_64__)
  if (cpu_runs(CpuIsa::kAvx512)) return sum_avx512;
#endif
  return sum;
}

}  // namespace

Result<double> measure_read_bandwidth(ThreadPool& pool, MemoryLedger& ledger) {
  const uint64_t bytes = std::max(
      kChunkBytes, std::min(kBufferBytes, available_host_memory() / 4) / kChunkBytes * kChunkBytes);
  Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kStaging, bytes);
  if (!buffer) return forward_error(buffer);
  std::memset(buffer->data(), 1, bytes);  // every page backed by memory of its own
  const Sum read = widest_sum();
  std::atomic<uint64_t> keep{0};
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const TimePoint begin = Clock::now();
    // A share for each thread: one that reads on where it has read is faster than one that jumps.
    const auto chunks = static_cast<int64_t>(bytes / kChunkBytes);
    const int64_t share = (chunks + pool.num_threads() - 1) / pool.num_threads();
    pool.parallel_for(chunks, share, [&](int64_t from, int64_t to) {
      keep.fetch_add(read(buffer->data() + static_cast<uint64_t>(from) * kChunkBytes,
                          static_cast<uint64_t>(to - from) * kChunkBytes),
                     std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(bytes) / seconds_since(begin));
  }
  if (keep.load() == 0)
    return fail(ErrorCode::kInternal, "the memory read as zeros after it was written");
  return best;
}

Result<double> measure_cuda_read_bandwidth([[maybe_unused]] const CudaDevice& device) {
  if constexpr (kCuda) {
    MemoryLedger ledger(/*limit_bytes=*/0, MemorySpace::kCuda);
    const uint64_t bytes =
        std::min(kCudaBufferBytes, cuda_memory().free_bytes / 2) / kChunkBytes * kChunkBytes;
    if (bytes < 4 * device.l2_bytes)
      return fail(ErrorCode::kResourceExhausted,
                  "{} of device memory are free, too little to measure its bandwidth",
                  format_bytes(bytes));
    Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kWorkspace, bytes + kChunkBytes);
    if (!buffer) return forward_error(buffer);
    auto* sink = reinterpret_cast<uint32_t*>(buffer->data() + bytes);
    const CudaStream stream = CudaStream::create(device);
    double best = 0.0;
    for (int pass = 0; pass < kPasses; ++pass) {
      const TimePoint begin = Clock::now();
      for (int i = 0; i < kReadsOfPass; ++i)
        cuda::read_once(buffer->data(), bytes, sink, stream.exec());
      stream.wait();
      best = std::max(best, static_cast<double>(bytes) * kReadsOfPass / seconds_since(begin));
    }
    return best;
  }
  DONAR_CHECK(false, "no CUDA device");
  return 0.0;
}

}  // namespace donar::app
