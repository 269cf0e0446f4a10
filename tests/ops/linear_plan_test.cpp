// How packed matrices are cut: what is allowed, what the large models get, and how evenly work
// falls on the multiprocessors.
#include "ops/linear_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace donar::ops {
namespace {

struct Shape {
  int64_t n, k;
  bool one_part;
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {6144, 4096, false},  {4096, 4096, false},  {28672, 4096, true},  // Llama-3.1-8B
      {4096, 14336, false}, {128256, 4096, true},                       //
      {3072, 2048, false},  {2048, 2048, false},  {16384, 2048, true},  // Llama-3.2-1B
      {2048, 8192, false},  {128256, 2048, true},                       //
      {4608, 3584, false},  {3584, 3584, false},  {37888, 3584, true},  // Qwen2.5-7B
      {3584, 18944, false}, {152064, 3584, true},                       //
      {960, 576, false},    {576, 576, false},    {3072, 576, true},    // SmolLM2-135M
      {576, 1536, false},   {49152, 576, true},                         //
      {64, 32, false},      {61, 48, false},      {300, 32, true},      // tests
      {1, 1, false},
  };
  return all;
}

TEST(LinearPlan, cuts_the_large_model_as_the_measured_kernel_did) {
  const auto expect = [](int64_t n, int64_t k, bool one_part, int tile_rows, int splits) {
    const LinearPlan plan = linear_plan(n, k, /*num_sms=*/132, one_part);
    EXPECT_EQ(plan.tile_rows, tile_rows) << n << " x " << k;
    EXPECT_EQ(plan.splits, splits) << n << " x " << k;
  };
  expect(6144, 4096, false, 192, 4);
  expect(4096, 4096, false, 128, 4);
  expect(28672, 4096, true, 224, 1);
  expect(4096, 14336, false, 128, 4);
  expect(128256, 4096, true, 256, 1);
}

TEST(LinearPlan, stays_within_what_the_kernels_take) {
  for (const Shape& shape : shapes()) {
    for (int num_sms : {1, 8, 16, 20, 48, 114, 132, 148}) {
      const LinearPlan plan = linear_plan(shape.n, shape.k, num_sms, shape.one_part);
      EXPECT_TRUE(plan.tile_rows >= 32 && plan.tile_rows <= kMaxTileRows &&
                  plan.tile_rows % kTileRowsStep == 0)
          << plan.tile_rows;
      EXPECT_TRUE(plan.splits == 1 || plan.splits == 2 || plan.splits == 4 || plan.splits == 8)
          << plan.splits;
      EXPECT_LE(plan.splits, num_k_tiles(shape.k));
      EXPECT_TRUE(plan.splits == 1 || !shape.one_part) << shape.n << " x " << shape.k;
      // No tile is padding alone.
      EXPECT_TRUE(plan.tile_rows == kTileRowsStep || plan.tile_rows - kTileRowsStep < shape.n);
    }
  }
}

TEST(LinearPlan, heads_have_one_part_without_being_asked) {
  EXPECT_EQ(linear_plan(128256, 2048, 132).splits, 1);
  EXPECT_EQ(linear_plan(65536, 8192, 132).splits, 1);
}

TEST(LinearPlan, splits_cover_k_and_differ_by_one_tile_at_most) {
  for (int k_tiles = 1; k_tiles <= 300; ++k_tiles) {
    for (int splits = 1; splits <= std::min(k_tiles, kMaxSplits); splits *= 2) {
      EXPECT_EQ(split_begin(k_tiles, splits, 0), 0);
      EXPECT_EQ(split_begin(k_tiles, splits, splits), k_tiles);
      for (int s = 0; s < splits; ++s) {
        const int length = split_begin(k_tiles, splits, s + 1) - split_begin(k_tiles, splits, s);
        EXPECT_GE(length, k_tiles / splits);
        EXPECT_LE(length, (k_tiles + splits - 1) / splits);
      }
    }
  }
}

TEST(LinearPlan, no_multiprocessor_reads_much_more_than_its_share) {
  for (const Shape& shape : shapes()) {
    if (shape.n * shape.k < int64_t{2048} * 2048) continue;  // too small to fill the device
    for (int num_sms : {20, 48, 132}) {
      const LinearPlan plan = linear_plan(shape.n, shape.k, num_sms, shape.one_part);
      const int64_t items = (shape.n + plan.tile_rows - 1) / plan.tile_rows * plan.splits;
      const int64_t passes = (items + num_sms - 1) / num_sms;
      const int64_t tiles = (num_k_tiles(shape.k) + plan.splits - 1) / plan.splits;
      const double busiest = static_cast<double>(passes * plan.tile_rows * tiles * kTileK);
      const double share = static_cast<double>(shape.n * shape.k) / num_sms;
      EXPECT_LE(busiest / share, 1.16) << shape.n << " x " << shape.k << " on " << num_sms << ": "
                                       << plan.tile_rows << " rows, " << plan.splits << " splits";
    }
  }
}

}  // namespace
}  // namespace donar::ops
