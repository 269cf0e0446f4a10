#include "ops/attention_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace donar::ops {
namespace {

struct Sequence {
  int computed;
  int rows;
};

struct Planned {
  std::vector<AttentionItem> decode, prefill;
};

AttentionPlanLimits limits_of(int q_heads, int kv_heads, int num_sms = 132) {
  return {.max_rows = 4096,
          .max_sequences = 64,
          .max_model_len = 40000,
          .q_heads = q_heads,
          .kv_heads = kv_heads,
          .head_dim = 128,
          .num_sms = num_sms};
}

Planned plan(const AttentionPlanLimits& limits, const std::vector<Sequence>& sequences,
             bool allow_prefill = true) {
  std::vector<int32_t> starts = {0}, positions;
  for (const Sequence& s : sequences) {
    for (int r = 0; r < s.rows; ++r) positions.push_back(s.computed + r);
    starts.push_back(static_cast<int32_t>(positions.size()));
  }
  positions.resize(positions.size() + 3, 0);  // padding rows
  const AttentionItemCapacity capacity = max_attention_items(limits);
  Planned planned;
  planned.decode.resize(static_cast<size_t>(capacity.decode));
  planned.prefill.resize(static_cast<size_t>(capacity.prefill));
  const AttentionItemCounts counts = plan_attention(limits, starts, positions, allow_prefill,
                                                    planned.decode.data(), planned.prefill.data());
  EXPECT_LE(counts.decode, capacity.decode);
  EXPECT_LE(counts.prefill, capacity.prefill);
  planned.decode.resize(static_cast<size_t>(counts.decode));
  planned.prefill.resize(static_cast<size_t>(counts.prefill));
  return planned;
}

uint64_t partial_rows(const AttentionPlanLimits& limits) {
  const AttentionWorkspaceLayout layout = attention_workspace_layout(limits);
  return (layout.bytes - layout.values) /
         (static_cast<uint64_t>(limits.q_heads * limits.head_dim) * sizeof(float));
}

int num_splits(const AttentionItem& item) {
  return (item.position + item.num_rows + item.chunk - 1) / item.chunk;
}

// Every row of every sequence is in one task, every split of a task is there once, and no two
// partial results share a place.
void expect_complete(const AttentionPlanLimits& limits, const std::vector<Sequence>& sequences,
                     const Planned& planned) {
  std::map<int, std::vector<int>> splits_of_row;
  std::map<int, int> expected_splits;
  std::vector<int> partial_uses(static_cast<size_t>(partial_rows(limits)), 0);
  std::vector<int32_t> first_row;
  int32_t next = 0;
  for (const Sequence& s : sequences) {
    first_row.push_back(next);
    next += s.rows;
  }
  for (const auto* items : {&planned.decode, &planned.prefill}) {
    for (const AttentionItem& item : *items) {
      const Sequence& s = sequences.at(static_cast<size_t>(item.sequence));
      const int offset = item.row_begin - first_row[static_cast<size_t>(item.sequence)];
      ASSERT_GE(item.num_rows, 1);
      ASSERT_GE(offset, 0);
      ASSERT_LE(offset + item.num_rows, s.rows);
      EXPECT_EQ(item.position, s.computed + offset);
      EXPECT_EQ(item.chunk % kAttentionChunkMultiple, 0);
      ASSERT_GE(item.run, 1);
      ASSERT_EQ(item.split % item.run, 0);
      const int splits = num_splits(item);
      ASSERT_LT(item.split, splits);
      for (int r = 0; r < item.num_rows; ++r) {
        expected_splits[item.row_begin + r] = splits;
        for (int split = item.split; split < std::min(item.split + item.run, splits); ++split) {
          splits_of_row[item.row_begin + r].push_back(split);
          if (splits <= item.run) continue;
          const auto slot = static_cast<size_t>(item.partial + split * item.num_rows + r);
          ASSERT_LT(slot, partial_uses.size());
          EXPECT_EQ(partial_uses[slot]++, 0) << "slot " << slot;
        }
      }
    }
  }
  ASSERT_EQ(static_cast<int>(splits_of_row.size()), next);
  for (auto& [row, splits] : splits_of_row) {
    std::sort(splits.begin(), splits.end());
    ASSERT_EQ(static_cast<int>(splits.size()), expected_splits[row]) << "row " << row;
    for (size_t i = 0; i < splits.size(); ++i) EXPECT_EQ(splits[i], static_cast<int>(i));
  }
}

int keys(const AttentionItem& item) {
  return std::min((item.split + item.run) * item.chunk, item.position + item.num_rows) -
         item.split * item.chunk;
}

TEST(AttentionPlan, random_steps_are_covered_once) {
  std::mt19937 generator(7);
  for (int round = 0; round < 300; ++round) {
    const int kv_heads = std::vector{1, 2, 4, 8, 16}[generator() % 5];
    const int group = std::vector{1, 2, 4, 7, 8, 71}[generator() % 6];
    AttentionPlanLimits limits =
        limits_of(kv_heads * group, kv_heads, std::vector{8, 20, 132}[generator() % 3]);
    limits.max_decode_rows = generator() % 2 == 0 ? 0 : 200;
    limits.batch_invariant = generator() % 4 == 0;
    std::vector<Sequence> sequences;
    int rows = 0;
    for (int s = static_cast<int>(generator() % 64); s >= 0; --s) {
      const int kind = static_cast<int>(generator() % 4);
      const int wanted = kind == 0   ? 1 + static_cast<int>(generator() % 300)
                         : kind == 1 ? static_cast<int>(generator() % (kAttentionDecodeRows + 1))
                                     : 1;
      if (rows + wanted > limits.max_rows) break;
      rows += wanted;
      sequences.push_back({static_cast<int>(generator() % 39000), wanted});
    }
    if (limits.batch_invariant && rows > 200) limits.max_decode_rows = 0;
    expect_complete(limits, sequences, plan(limits, sequences));
    if (HasFatalFailure()) return;
  }
}

// What a row is split into does not depend on the rows or sequences around it.
TEST(AttentionPlan, a_decode_row_is_split_by_its_own_length) {
  const AttentionPlanLimits limits = limits_of(32, 8);
  for (int length : {1, 127, 256, 257, 4096, 4097, 6144, 6150, 39000}) {
    const Planned alone = plan(limits, {{length - 1, 1}});
    for (int following = 1; following < kAttentionDecodeRows; ++following) {
      const Planned together = plan(limits, {{77, 1}, {length - 1, 1 + following}, {9000, 3}});
      int found = 0;
      for (const AttentionItem& item : together.decode) {
        if (item.row_begin != 1) continue;
        found += std::min(item.run, num_splits(item) - item.split);
        EXPECT_EQ(item.chunk, alone.decode.front().chunk) << length;
      }
      EXPECT_GE(found, num_splits(alone.decode.front()));
      // Any further split holds only keys that row 1 does not see.
      EXPECT_LE(found, num_splits(alone.decode.front()) + 1);
    }
  }
}

// Where there are sequences enough, splits of one share an item, and only a long one among them is
// shared out. The chunk stays that of the length, and with it the bits of the result.
TEST(AttentionPlan, sequences_that_occupy_the_device_are_not_shared_out) {
  AttentionPlanLimits limits = limits_of(32, 8);
  limits.max_sequences = 256;
  std::vector<Sequence> sequences(255, Sequence{576, 1});
  sequences.push_back({20000, 1});
  const Planned many = plan(limits, sequences);
  expect_complete(limits, sequences, many);
  const int64_t share = (int64_t{255} * 577 + 20001) * 8 / 132;
  int items_of_long = 0;
  for (const AttentionItem& item : many.decode) {
    EXPECT_LE(keys(item), share * 3 / 4 + item.chunk);
    EXPECT_EQ(item.chunk, attention_chunk(limits, item.position + 1));
    if (item.sequence == 255) {
      ++items_of_long;
    } else {
      EXPECT_GE(item.run, num_splits(item));
    }
  }
  EXPECT_GE(items_of_long, 3);

  EXPECT_EQ(plan(limits, {{576, 1}}).decode.size(), 3u);  // alone: as many SMs as there are splits
  EXPECT_EQ(plan(limits, {{576, 1}, {576, 1}}).decode.size(), 6u);
}

TEST(AttentionPlan, rows_on_both_sides_of_a_new_chunk_are_separate_items) {
  const AttentionPlanLimits limits = limits_of(32, 8);  // 16 splits: the chunk grows every 2048
  ASSERT_NE(attention_chunk(limits, 6144), attention_chunk(limits, 6145));
  for (const AttentionItem& item : plan(limits, {{6142, 4}}).decode)
    EXPECT_EQ(item.num_rows, 2) << item.position;
}

TEST(AttentionPlan, one_long_sequence_occupies_the_device_once) {
  const AttentionPlanLimits limits = limits_of(32, 8);
  for (int length : {4096, 8192, 20000, 39999}) {
    const size_t items = plan(limits, {{length - 1, 1}}, /*allow_prefill=*/false).decode.size();
    EXPECT_LE(items * 8, 132u);
    EXPECT_GE(items * 8, 112u) << length;
  }
  EXPECT_EQ(plan(limits, {{255, 1}}).decode.size(), 1u);
}

TEST(AttentionPlan, longest_work_comes_first) {
  const AttentionPlanLimits limits = limits_of(32, 8);
  const Planned planned =
      plan(limits, {{100, 1}, {20000, 1}, {3000, 1}, {0, 1}, {0, 500}, {900, 70}});
  EXPECT_EQ(planned.decode.front().chunk, attention_chunk(limits, 20001));
  EXPECT_EQ(keys(planned.decode.back()), 1);
  EXPECT_TRUE(std::is_sorted(
      planned.prefill.begin(), planned.prefill.end(),
      [](const AttentionItem& a, const AttentionItem& b) { return keys(a) > keys(b); }));
}

TEST(AttentionPlan, a_few_rows_on_a_long_context_are_split_for_prefill_too) {
  const AttentionPlanLimits limits = limits_of(32, 8);
  const Planned planned = plan(limits, {{30000, 30}});
  EXPECT_EQ(planned.decode.size(), 0u);
  EXPECT_GE(planned.prefill.size(), 14u);
  EXPECT_EQ(plan(limits, {{0, 2048}}).prefill.size(), 64u);  // 32 rows x 4 heads each, unsplit
}

TEST(AttentionPlan, decode_rows_without_room_for_partial_results_run_as_prefill) {
  AttentionPlanLimits limits = limits_of(32, 8);
  limits.max_decode_rows = 20;
  const std::vector<Sequence> sequences = {{5000, 16}, {5000, 16}, {5000, 4}};
  const Planned planned = plan(limits, sequences);
  expect_complete(limits, sequences, planned);
  for (const AttentionItem& item : planned.decode) EXPECT_NE(item.sequence, 1);
  EXPECT_FALSE(planned.prefill.empty());
}

TEST(AttentionPlan, sequences_without_rows_and_empty_steps_give_no_items) {
  const AttentionPlanLimits limits = limits_of(32, 8);
  EXPECT_TRUE(plan(limits, {}).decode.empty());
  const Planned planned = plan(limits, {{10, 0}, {10, 1}, {0, 0}});
  ASSERT_EQ(planned.decode.size(), 1u);
  EXPECT_EQ(planned.decode[0].sequence, 1);
}

}  // namespace
}  // namespace donar::ops
