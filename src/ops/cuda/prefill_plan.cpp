#include "ops/cuda/prefill_plan.h"

#include <algorithm>

namespace donar::ops::cuda {

namespace {

// Cycles of one SM, from Hopper's peak of 4,096 operations a cycle and the share of it that tiles
// of this size reach; only the ratios matter.
constexpr double kStageCycles256 = 1100;       // 128 x 256 x 64: 1,024 at the peak
constexpr double kStageCycles128 = 640;        // 128 x 128 x 64: 512 at the peak
constexpr double kUnitCycles = 2500;           // fill of the ring, drain, epilogue
constexpr double kMemoryBytesPerCycle = 13.5;  // an SM's share of device memory
constexpr double kCacheBytesPerCycle = 24;     // and of L2: written and read results
constexpr int kMinSplitStages = 4;             // as deep as the ring

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double estimated_cycles(int64_t n, int64_t k, int64_t rows, int num_sms, PrefillPlan plan) {
  const PrefillGrid grid = prefill_grid(n, rows, plan, /*cluster=*/1);
  const double stages = static_cast<double>(ceil_div(num_k_tiles(k), plan.splits));
  const double stage = plan.token_tile == 256 ? kStageCycles256 : kStageCycles128;
  const double waves = static_cast<double>(ceil_div(grid.units(), num_sms));
  const double compute = waves * (stages * stage + kUnitCycles);
  const double weights = 2.0 * static_cast<double>(n) * static_cast<double>(k);
  const double memory = weights / (kMemoryBytesPerCycle * num_sms);
  const double value_bytes = plan.splits == 1 ? 2 : 4.0 * plan.splits;
  const double results = 2 * value_bytes * static_cast<double>(n) * static_cast<double>(rows) /
                         (kCacheBytesPerCycle * num_sms);
  return std::max(compute, memory) + results;
}

}  // namespace

PrefillPlan prefill_plan(int64_t n, int64_t k, int64_t rows, int num_sms, bool one_part) {
  const int64_t stages = num_k_tiles(k);
  const int64_t most = std::min<int64_t>(kPrefillMaxSplits, kPrefillMaxPartRows / rows);
  const int64_t limit =
      one_part ? 1 : std::max<int64_t>(std::min(stages / kMinSplitStages, most), 1);
  PrefillPlan best{};
  double best_cycles = 0;
  for (const int token_tile : {256, 128}) {
    for (int splits = 1; splits <= limit; ++splits) {
      const PrefillPlan plan{token_tile, splits};
      const double cycles = estimated_cycles(n, k, rows, num_sms, plan);
      const bool first = token_tile == 256 && splits == 1;
      if (first || cycles < best_cycles) best = plan, best_cycles = cycles;
    }
  }
  return best;
}

}  // namespace donar::ops::cuda
