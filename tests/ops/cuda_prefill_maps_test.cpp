// Products of more than 64 rows, the arithmetic that needs no device: plan, tiles, staging and
// descriptors.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <set>
#include <tuple>
#include <vector>

#include "ops/cuda/common/wgmma.cuh"
#include "ops/cuda/prefill_epilogue.cuh"
#include "ops/cuda/prefill_gemm.h"

namespace donar::ops::cuda {
namespace {

TEST(PrefillPlan, units_visit_every_tile_of_every_split_once) {
  for (const int row_tiles : {1, 3, 48}) {
    for (const int token_tiles : {1, 7, 8, 9, 32}) {
      for (const int splits : {1, 4}) {
        const PrefillGrid grid{row_tiles, token_tiles, splits, /*token_group=*/8};
        std::set<std::tuple<int, int, int>> seen;
        for (int i = 0; i < grid.units(); ++i) {
          const PrefillUnit unit = prefill_unit(grid, i);
          ASSERT_TRUE(unit.row_tile >= 0 && unit.row_tile < row_tiles);
          ASSERT_TRUE(unit.token_tile >= 0 && unit.token_tile < token_tiles);
          ASSERT_TRUE(unit.split >= 0 && unit.split < splits);
          seen.insert({unit.row_tile, unit.token_tile, unit.split});
        }
        EXPECT_EQ(static_cast<int>(seen.size()), row_tiles * token_tiles * splits);
      }
    }
  }
}

TEST(PrefillPlan, a_wave_of_ctas_shares_weights_and_tokens) {
  // 8,192 tokens of a gate-up matrix: 132 units in a row touch 8 token tiles and 17 row tiles.
  const PrefillGrid grid = prefill_grid(28672, 8192, {256, 1}, /*cluster=*/1);
  std::set<int> rows, tokens;
  for (int i = 132; i < 264; ++i) {
    rows.insert(prefill_unit(grid, i).row_tile);
    tokens.insert(prefill_unit(grid, i).token_tile);
  }
  EXPECT_EQ(tokens.size(), 8u);
  EXPECT_LE(rows.size(), 18u);
}

TEST(PrefillPlan, splits_cut_k_without_gaps_and_none_is_empty) {
  for (const int64_t k : {int64_t{32}, int64_t{576}, int64_t{4096}, int64_t{14336}}) {
    for (const int64_t n : {int64_t{61}, int64_t{4096}, int64_t{28672}}) {
      for (const int64_t rows : {65, 128, 129, 256, 512, 768, 2048, 8192}) {
        const int k_tiles = static_cast<int>(num_k_tiles(k));
        const PrefillPlan plan = prefill_plan(n, k, rows, 132);
        EXPECT_TRUE(plan.token_tile == 128 || plan.token_tile == 256);
        ASSERT_TRUE(plan.splits >= 1 && plan.splits <= std::min(k_tiles, kPrefillMaxSplits));
        EXPECT_TRUE(plan.splits == 1 || plan.splits * rows <= kPrefillMaxPartRows);
        EXPECT_EQ(prefill_split_begin(k_tiles, plan.splits, 0), 0);
        EXPECT_EQ(prefill_split_begin(k_tiles, plan.splits, plan.splits), k_tiles);
        for (int s = 0; s < plan.splits; ++s)
          EXPECT_LT(prefill_split_begin(k_tiles, plan.splits, s),
                    prefill_split_begin(k_tiles, plan.splits, s + 1));
        EXPECT_EQ(prefill_plan(n, k, rows, 132, /*one_part=*/true).splits, 1);
      }
    }
  }
}

TEST(PrefillPlan, few_tiles_are_split_and_many_are_not) {
  EXPECT_GT(prefill_plan(4096, 4096, 128, 132).splits, 1);
  EXPECT_GT(prefill_plan(4096, 14336, 256, 132).splits, 1);
  EXPECT_EQ(prefill_plan(4096, 4096, 100, 132).token_tile, 128);
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}}) {
    const PrefillPlan plan = prefill_plan(n, k, 2048, 132);
    EXPECT_EQ(plan.token_tile, 256) << n << " x " << k;
    EXPECT_EQ(plan.splits, 1) << n << " x " << k;
  }
}

TEST(PrefillTiles, a_granule_is_32_rows_of_the_packed_matrix) {
  for (const int tile_rows : {32, 96, 192, 224, 256}) {
    const int64_t k = 4160;
    for (int row = 0; row < 1024; row += kGranuleRows) {
      for (const int k_tile : {0, 64}) {
        const int64_t offset = granule_offset(row, static_cast<int>(num_k_tiles(k)), tile_rows) +
                               int64_t{k_tile} * tile_rows * kTileK * 2;
        // Slot s of row r of the granule, as the kernels read it: the swizzle is by the row in it.
        for (const int r : {0, 5, 31}) {
          for (const int slot : {0, 3, 7}) {
            EXPECT_EQ(offset / 2 + r * kTileK + (slot ^ (r & 7)) * 8,
                      tiled_weight_offset(row + r, k_tile * kTileK + slot * 8, k, tile_rows));
          }
        }
      }
    }
  }
}

// The 16-byte bank group of an offset; 8 of them are what a quarter warp reads at once.
int bank_group(uint32_t offset) { return static_cast<int>(offset / 16 % 8); }

template <int kSlots>
void expect_staging_is_sound(int tokens) {
  std::set<uint32_t> offsets;
  for (int token = 0; token < tokens; ++token) {
    for (int slot = 0; slot < kSlots; ++slot) {
      const uint32_t offset = staged_offset<kSlots>(token, slot);
      EXPECT_LT(offset, static_cast<uint32_t>(tokens * kSlots * 16));
      offsets.insert(offset);
      // The kernels step by 8 tokens with an addition.
      EXPECT_EQ(staged_offset<kSlots>(token + 8, slot), offset + 8 * kSlots * 16);
    }
  }
  EXPECT_EQ(offsets.size(), static_cast<size_t>(tokens * kSlots));
  for (int token = 0; token < tokens; token += 8) {
    for (int slot = 0; slot < kSlots; ++slot) {  // a matrix written: one slot of 8 tokens
      std::set<int> banks;
      for (int i = 0; i < 8; ++i) banks.insert(bank_group(staged_offset<kSlots>(token + i, slot)));
      EXPECT_EQ(banks.size(), 8u) << kSlots << " slots, slot " << slot;
    }
  }
  for (int first = 0; first < tokens * kSlots; first += 8) {  // a copy: 8 slots in a row
    std::set<int> banks;
    for (int i = first; i < first + 8; ++i)
      banks.insert(bank_group(staged_offset<kSlots>(i / kSlots, i % kSlots)));
    EXPECT_EQ(banks.size(), 8u) << kSlots << " slots";
  }
}

TEST(PrefillStaging, holds_every_value_and_no_bank_is_met_twice) {
  expect_staging_is_sound<4>(256);
  expect_staging_is_sound<8>(128);
  expect_staging_is_sound<16>(64);
  // f32 values: a warp writes column g of tokens 2t (or 2t + 1), one word a lane.
  for (const int odd : {0, 1}) {
    for (const int slot : {0, 2, 4, 14}) {
      std::set<uint32_t> banks;
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        banks.insert(
            (staged_offset<16>(2 * t + odd, slot + g / 4) / 4 + static_cast<uint32_t>(g % 4)) % 32);
      }
      EXPECT_EQ(banks.size(), 32u);
    }
  }
}

TEST(WgmmaDescriptor, has_its_fields_where_the_hardware_looks) {
  const uint64_t descriptor = wgmma_descriptor(0x2c400);
  EXPECT_EQ(descriptor & 0x3fff, 0x2c400u >> 4);
  EXPECT_EQ(descriptor >> 32 & 0x3fff, 1024u >> 4);  // stride from atom to atom
  EXPECT_EQ(descriptor >> 49 & 7, 0u);               // atoms are aligned
  EXPECT_EQ(descriptor >> 62, 1u);                   // swizzle of 128 bytes
  // 16 values of K are 32 bytes; steps stay inside the field.
  EXPECT_EQ(descriptor + wgmma_step(32), wgmma_descriptor(0x2c420));
  EXPECT_EQ(wgmma_descriptor(1024) + 3 * wgmma_step(49152) + wgmma_step(8192),
            wgmma_descriptor(1024 + 3 * 49152 + 8192));
}

}  // namespace
}  // namespace donar::ops::cuda
