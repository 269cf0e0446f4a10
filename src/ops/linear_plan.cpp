// Choice of tile_rows and splits by counting what the busiest multiprocessor does.
#include "ops/linear_plan.h"

#include <algorithm>

#include "base/check.h"

namespace donar::ops {
namespace {

constexpr int64_t kWideRows = 65536;  // heads: partial sums of so many columns cost too much

// Costs in bytes of weights that a multiprocessor reads from memory in the same time, 23 KB per us
// on an H100.
constexpr double kTileBytes = kTileK * 2;   // of one row and k tile
constexpr double kRingBytes = 200 << 10;    // weights that are waiting when a kernel may begin
constexpr double kPassBytes = 8 << 10;      // last results of a tile, first products of the next
constexpr double kStageBytes = 1.5 * 1024;  // a k tile's products, where they wait for no weights
constexpr double kPartialShare = 0.3;       // of a byte that comes through L2, not from memory
constexpr double kActivationRows = 8;       // in the middle of what steps have

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

double linear_plan_cost(int64_t n, int64_t k, int num_sms, LinearPlan plan) {
  const int64_t k_tiles = ceil_div(ceil_div(k, kTileK), plan.splits);  // of the longest split
  const int64_t items = ceil_div(n, plan.tile_rows) * plan.splits;
  const auto passes = static_cast<double>(ceil_div(items, num_sms));
  const auto steps = static_cast<double>(k_tiles);
  const double weights = passes * steps * plan.tile_rows * kTileBytes;
  const double activations = passes * steps * kActivationRows * kTileBytes * kPartialShare;
  // The next op reads a row's parts with one CTA.
  const double partials = static_cast<double>(n * plan.splits) * 4 * kPartialShare;
  // A kernel begins with a full ring and works it off before it is bound by memory.
  const double begin = std::min(steps, kRingBytes / (plan.tile_rows * kTileBytes)) * kStageBytes;
  return weights + activations + partials + begin + passes * kPassBytes;
}

LinearPlan linear_plan(int64_t n, int64_t k, int num_sms, bool one_part) {
  DONAR_CHECK(n > 0 && k > 0 && num_sms > 0, "[{}, {}] on {} multiprocessors", n, k, num_sms);
  const int max_splits = one_part || n >= kWideRows ? 1 : kMaxSplits;
  LinearPlan best;
  double best_cost = linear_plan_cost(n, k, num_sms, best);
  for (int splits = 1; splits <= max_splits && splits <= num_k_tiles(k); splits *= 2) {
    for (int tile_rows = kTileRowsStep; tile_rows <= kMaxTileRows; tile_rows += kTileRowsStep) {
      const LinearPlan plan{tile_rows, splits};
      const double cost = linear_plan_cost(n, k, num_sms, plan);
      if (cost < best_cost) best = plan, best_cost = cost;
    }
  }
  return best;
}

}  // namespace donar::ops
