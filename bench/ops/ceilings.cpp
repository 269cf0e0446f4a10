#include "bench/ops/ceilings.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tensor/buffer.h"

namespace donar::bench {
namespace {

constexpr int kRounds = 40;  // short ones: the best of them is between two preemptions
constexpr int64_t kStreamBytes = int64_t{1} << 30;
constexpr int64_t kSegmentBytes = int64_t{32} << 20;
constexpr int64_t kPage = 4096;

int64_t plain_read(const void* data, int64_t bytes) {
  const auto* at = static_cast<const int64_t*>(data);
  int64_t sums[16] = {};
  for (int64_t i = 0; i + 16 <= bytes / 8; i += 16) {
    for (int j = 0; j < 16; ++j) sums[j] += at[i + j];
  }
  int64_t sum = 0;
  for (int64_t s : sums) sum += s;
  return sum;
}

// Best of several rounds of one loop per thread at once; operations per second. Threads of its own:
// the pool may go on alone.
template <class Loop>
double peak(int threads, Loop loop) {
  constexpr long kIterations = 40000;  // about 100 us
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> rates(static_cast<size_t>(threads));
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        const TimePoint begin = Clock::now();
        const double operations = loop(kIterations) * kIterations;
        rates[static_cast<size_t>(t)] = operations / seconds_since(begin);
      });
    }
    for (std::thread& worker : workers) worker.join();
    best = std::max(best, std::accumulate(rates.begin(), rates.end(), 0.0));
  }
  return best;
}

}  // namespace

int64_t read_all(ThreadPool& pool, CpuIsa isa, const std::byte* data, int64_t bytes) {
  const bool avx512 = isa == CpuIsa::kAmx || isa == CpuIsa::kAvx512;
  // A piece each: a thread that reads on where it has read is faster than one that jumps.
  const int64_t pages = (bytes + kPage - 1) / kPage;
  const int64_t piece = (pages + pool.num_threads() - 1) / pool.num_threads() * kPage;
  std::atomic<int64_t> sum{0};
  pool.parallel_for(bytes, piece, [&](int64_t from, int64_t to) {
    sum += avx512 ? avx512_read_loop(data + from, to - from) : plain_read(data + from, to - from);
  });
  return sum;
}

Ceilings measure_ceilings(ThreadPool& pool, CpuIsa isa) {
  const bool amx = isa == CpuIsa::kAmx;
  const bool avx512 = amx || isa == CpuIsa::kAvx512;
  Ceilings ceilings;
  MemoryLedger ledger;
  const Buffer buffer = *Buffer::allocate(ledger, MemoryUse::kStaging, kStreamBytes);
  std::fill_n(buffer.as<int64_t>(), kStreamBytes / 8, 1);
  std::atomic<int64_t> sink{0};
  for (int round = 0; round < 4; ++round) {
    for (int64_t segment = 0; segment < kStreamBytes; segment += kSegmentBytes) {
      const TimePoint begin = Clock::now();
      sink += read_all(pool, isa, buffer.data() + segment, kSegmentBytes);
      ceilings.read_gb_per_s = std::max(
          ceilings.read_gb_per_s, static_cast<double>(kSegmentBytes) / seconds_since(begin) / 1e9);
    }
  }
  if (avx512) {
    const int threads = pool.num_threads();
    ceilings.f32_tflops = peak(threads, avx512_f32_loop) / 1e12;
    ceilings.int8_tops = peak(threads, amx ? amx_int8_loop : avx512_int8_loop) / 1e12;
    ceilings.bf16_tflops = amx ? peak(threads, amx_bf16_loop) / 1e12 : ceilings.f32_tflops;
  }
  return ceilings;
}

}  // namespace donar::bench
