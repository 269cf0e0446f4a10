#include "ops/attention_plan.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "ops/linear_plan.h"

namespace donar::ops {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

int group_size(const AttentionPlanLimits& limits) { return limits.q_heads / limits.kv_heads; }

// Rows of one item: what fills the M side of its tile with all heads of a group.
int decode_item_rows(const AttentionPlanLimits& limits) {
  return std::max(1, kAttentionDecodeTile / group_size(limits));
}
int prefill_item_rows(const AttentionPlanLimits& limits) {
  return std::max(1, kAttentionPrefillTile / group_size(limits));
}

// Splits that give every SM one unit of work when one sequence is alone.
int64_t wanted_splits(const AttentionPlanLimits& limits) {
  return std::max(1, limits.num_sms / limits.kv_heads);
}

// Below this a split's reading is shorter than the merge it causes; with few kv heads smaller
// splits are what occupies the device at all.
int64_t smallest_chunk(const AttentionPlanLimits& limits) {
  return limits.kv_heads >= 4 ? 256 : 128;
}

int64_t decode_rows_limit(const AttentionPlanLimits& limits) {
  if (limits.max_decode_rows > 0) return limits.max_decode_rows;
  return limits.batch_invariant ? limits.max_rows : limits.max_sequences;
}
int64_t max_decode_splits(const AttentionPlanLimits& limits) {
  return std::min(wanted_splits(limits), ceil_div(limits.max_model_len, smallest_chunk(limits)));
}
// Prefill items are split while their tasks leave SMs idle; then tasks + splits stay below this.
int64_t max_split_prefill_items(const AttentionPlanLimits& limits) {
  return 2 * wanted_splits(limits);
}

void check(const AttentionPlanLimits& limits) {
  DONAR_CHECK(limits.max_rows > 0 && limits.max_sequences > 0 && limits.max_model_len > 0 &&
                  limits.kv_heads > 0 && limits.q_heads > 0 && limits.head_dim > 0 &&
                  limits.num_sms > 0 && limits.q_heads % limits.kv_heads == 0,
              "attention plan for {} rows, {} sequences, {} keys, {} query heads on {} kv heads of "
              "{}, {} SMs",
              limits.max_rows, limits.max_sequences, limits.max_model_len, limits.q_heads,
              limits.kv_heads, limits.head_dim, limits.num_sms);
}

int64_t last_key(const AttentionItem& item) {
  return std::min(int64_t{item.split + 1} * item.chunk, int64_t{item.position} + item.num_rows);
}
int64_t num_keys(const AttentionItem& item) {
  return last_key(item) - int64_t{item.split} * item.chunk;
}

void sort_by_keys(AttentionItem* begin, AttentionItem* end) {
  std::sort(begin, end, [](const AttentionItem& a, const AttentionItem& b) {
    const int64_t keys_a = num_keys(a), keys_b = num_keys(b);
    return keys_a != keys_b ? keys_a > keys_b : a.row_begin < b.row_begin;
  });
}

// Tasks (rows with num_splits set) into one item a split: whole splits first, longest first, then
// the tails.
int32_t expand(std::vector<AttentionItem>& tasks, int64_t partial, int64_t partial_end,
               AttentionItem* items) {
  std::sort(tasks.begin(), tasks.end(), [](const AttentionItem& a, const AttentionItem& b) {
    return a.chunk != b.chunk ? a.chunk > b.chunk : a.row_begin < b.row_begin;
  });
  int32_t count = 0;
  for (AttentionItem& task : tasks) {
    task.partial = 0;
    if (task.num_splits == 1) continue;
    task.partial = static_cast<int32_t>(partial);
    partial += int64_t{task.num_splits} * task.num_rows;
    for (task.split = 0; task.split < task.num_splits - 1; ++task.split) items[count++] = task;
  }
  DONAR_CHECK(partial <= partial_end, "{} partial rows, room for {}", partial, partial_end);
  const int32_t tails = count;
  for (AttentionItem& task : tasks) {
    task.split = task.num_splits - 1;
    items[count++] = task;
  }
  sort_by_keys(items + tails, items + count);
  return count;
}

// Cuts a decode-like sequence into tasks of rows that share a chunk of at least `floor` keys.
void add_decode_tasks(const AttentionPlanLimits& limits, int sequence, int32_t begin, int32_t end,
                      int32_t position, int floor, std::vector<AttentionItem>& tasks) {
  const int max_rows = decode_item_rows(limits);
  const auto chunk_of = [&](int64_t length) {
    return std::max(attention_chunk(limits, length), floor);
  };
  for (int32_t row = begin; row < end;) {
    AttentionItem task{};
    task.sequence = sequence;
    task.row_begin = row;
    task.position = position + (row - begin);
    task.chunk = chunk_of(int64_t{task.position} + 1);
    int rows = 1;
    while (rows < max_rows && row + rows < end &&
           chunk_of(int64_t{task.position} + rows + 1) == task.chunk)
      ++rows;
    task.num_rows = rows;
    task.num_splits = static_cast<int32_t>(ceil_div(int64_t{task.position} + rows, task.chunk));
    tasks.push_back(task);
    row += rows;
  }
}

// What a step of many rows adds to the rule of attention_chunk: a unit need not be smaller than
// half of what an SM reads in all. Each one that is split costs a merge through memory, which with
// 256 sequences of 577 keys is a third of the time. Fewer rows keep their bits instead.
int smallest_chunk_of_step(const AttentionPlanLimits& limits, std::span<const int32_t> query_start,
                           std::span<const int32_t> positions) {
  if (limits.batch_invariant || query_start.back() <= kDecodeRows) return 0;
  int64_t keys = 0;
  for (size_t s = 0; s + 1 < query_start.size(); ++s) {
    const int32_t begin = query_start[s], end = query_start[s + 1];
    if (begin < end && end - begin <= kAttentionDecodeRows)
      keys += positions[static_cast<size_t>(end) - 1] + 1;
  }
  const int64_t share = ceil_div(keys * limits.kv_heads, int64_t{2} * limits.num_sms);
  return static_cast<int>(round_up(share, int64_t{kAttentionChunkMultiple}));
}

int32_t plan_prefill(const AttentionPlanLimits& limits, std::vector<AttentionItem>& tasks,
                     AttentionItem* items) {
  const auto num_tasks = static_cast<int64_t>(tasks.size());
  int64_t keys = 0, longest = 1;
  for (const AttentionItem& task : tasks) {
    keys += task.position + task.num_rows;
    longest = std::max<int64_t>(longest, task.position + task.num_rows);
  }
  int64_t chunk = round_up(longest, kAttentionChunkMultiple);
  if (num_tasks < wanted_splits(limits)) {
    const int64_t share =
        std::max<int64_t>(4 * kAttentionChunkMultiple, ceil_div(keys, wanted_splits(limits)));
    chunk = std::min(chunk, round_up(share, kAttentionChunkMultiple));
  }
  for (AttentionItem& task : tasks) {
    task.chunk = static_cast<int32_t>(chunk);
    task.num_splits = static_cast<int32_t>(ceil_div(int64_t{task.position} + task.num_rows, chunk));
  }
  const int64_t first = decode_rows_limit(limits) * max_decode_splits(limits);
  return expand(tasks, first, first + max_split_prefill_items(limits) * prefill_item_rows(limits),
                items);
}

}  // namespace

int attention_chunk(const AttentionPlanLimits& limits, int64_t length) {
  return static_cast<int>(std::max(
      smallest_chunk(limits),
      round_up(ceil_div(length, wanted_splits(limits)), int64_t{kAttentionChunkMultiple})));
}

AttentionItemCapacity max_attention_items(const AttentionPlanLimits& limits) {
  check(limits);
  const int64_t rows = decode_rows_limit(limits);
  // A sequence's last item may be short, and so may one where the chunk changes.
  const int64_t decode_tasks =
      std::min(rows, rows / decode_item_rows(limits) + 2 * int64_t{limits.max_sequences});
  const int64_t prefill_tasks = std::min<int64_t>(
      limits.max_rows, limits.max_rows / prefill_item_rows(limits) + limits.max_sequences);
  return {decode_tasks * max_decode_splits(limits),
          prefill_tasks + max_split_prefill_items(limits)};
}

AttentionWorkspaceLayout attention_workspace_layout(const AttentionPlanLimits& limits) {
  check(limits);
  const auto rows =
      static_cast<uint64_t>(decode_rows_limit(limits) * max_decode_splits(limits) +
                            max_split_prefill_items(limits) * prefill_item_rows(limits));
  const auto tiles = static_cast<uint64_t>(ceil_div(group_size(limits), kAttentionDecodeTile));
  const auto q_heads = static_cast<uint64_t>(limits.q_heads);
  const auto aligned = [](uint64_t bytes) { return (bytes + 255) & ~uint64_t{255}; };
  AttentionWorkspaceLayout layout;
  layout.sums = aligned(static_cast<uint64_t>(limits.max_rows) *
                        static_cast<uint64_t>(limits.kv_heads) * tiles * sizeof(int32_t));
  layout.values = layout.sums + aligned(rows * q_heads * 2 * sizeof(float));
  layout.bytes = layout.values +
                 aligned(rows * q_heads * static_cast<uint64_t>(limits.head_dim) * sizeof(float));
  return layout;
}

AttentionItemCounts plan_attention(const AttentionPlanLimits& limits,
                                   std::span<const int32_t> query_start,
                                   std::span<const int32_t> positions, bool allow_prefill,
                                   AttentionItem* decode, AttentionItem* prefill) {
  check(limits);
  DONAR_CHECK(!query_start.empty() && query_start.front() == 0);
  const int32_t rows = query_start.back();
  DONAR_CHECK(rows <= limits.max_rows && std::ssize(positions) >= rows &&
                  std::ssize(query_start) - 1 <= limits.max_sequences,
              "{} rows of {}, {} positions, {} sequences of {}", rows, limits.max_rows,
              positions.size(), query_start.size() - 1, limits.max_sequences);
  const int floor = smallest_chunk_of_step(limits, query_start, positions);
  std::vector<AttentionItem> decode_tasks, prefill_tasks;
  int64_t decode_rows = 0;
  for (int s = 0; s + 1 < std::ssize(query_start); ++s) {
    const int32_t begin = query_start[static_cast<size_t>(s)];
    const int32_t end = query_start[static_cast<size_t>(s) + 1];
    DONAR_CHECK(begin <= end, "sequence {} ends before it begins", s);
    if (begin == end) continue;
    const int32_t position = positions[static_cast<size_t>(begin)];
    DONAR_CHECK(position >= 0 &&
                    positions[static_cast<size_t>(end) - 1] == position + end - 1 - begin &&
                    position + (end - begin) <= limits.max_model_len,
                "sequence {}: {} rows at positions {} to {}, of {}", s, end - begin, position,
                positions[static_cast<size_t>(end) - 1], limits.max_model_len);
    if ((end - begin <= kAttentionDecodeRows || limits.batch_invariant) &&
        decode_rows + (end - begin) <= decode_rows_limit(limits)) {
      decode_rows += end - begin;
      add_decode_tasks(limits, s, begin, end, position, floor, decode_tasks);
      continue;
    }
    DONAR_CHECK(allow_prefill, "sequence {} brings {} rows after {}, of {}, to a decode step", s,
                end - begin, decode_rows, decode_rows_limit(limits));
    for (int32_t row = begin; row < end; row += prefill_item_rows(limits)) {
      AttentionItem task{};
      task.sequence = s;
      task.row_begin = row;
      task.num_rows = std::min(prefill_item_rows(limits), end - row);
      task.position = position + (row - begin);
      prefill_tasks.push_back(task);
    }
  }
  AttentionItemCounts counts;
  counts.decode =
      expand(decode_tasks, 0, decode_rows_limit(limits) * max_decode_splits(limits), decode);
  counts.prefill = plan_prefill(limits, prefill_tasks, prefill);
  return counts;
}

}  // namespace donar::ops
