#include "ops/attention_plan.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

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

int64_t num_splits(const AttentionItem& task) {
  return ceil_div(int64_t{task.position} + task.num_rows, task.chunk);
}
int64_t num_keys(const AttentionItem& item) {
  const int64_t end = int64_t{item.split + item.run} * item.chunk;
  return std::min(end, int64_t{item.position} + item.num_rows) - int64_t{item.split} * item.chunk;
}

// Tasks (rows with chunk and run set) into one item a run of splits, longest first.
int32_t expand(std::vector<AttentionItem>& tasks, int64_t partial, int64_t partial_end,
               AttentionItem* items) {
  int32_t count = 0;
  for (AttentionItem& task : tasks) {
    const int64_t splits = num_splits(task);
    if (splits > task.run) {
      task.partial = static_cast<int32_t>(partial);
      partial += splits * task.num_rows;
    }
    for (task.split = 0; task.split < splits; task.split += task.run) items[count++] = task;
  }
  DONAR_CHECK(partial <= partial_end, "{} partial rows, room for {}", partial, partial_end);
  std::sort(items, items + count, [](const AttentionItem& a, const AttentionItem& b) {
    const int64_t keys_a = num_keys(a), keys_b = num_keys(b);
    if (keys_a != keys_b) return keys_a > keys_b;
    return a.row_begin != b.row_begin ? a.row_begin < b.row_begin : a.split < b.split;
  });
  return count;
}

// Cuts a decode-like sequence into tasks of rows that share a chunk, and those into runs of about
// `run_keys` keys.
void add_decode_tasks(const AttentionPlanLimits& limits, int sequence, int32_t begin, int32_t end,
                      int32_t position, int64_t run_keys, std::vector<AttentionItem>& tasks) {
  const int max_rows = decode_item_rows(limits);
  for (int32_t row = begin; row < end;) {
    AttentionItem task{};
    task.sequence = sequence;
    task.row_begin = row;
    task.position = position + (row - begin);
    task.chunk = attention_chunk(limits, int64_t{task.position} + 1);
    int rows = 1;
    while (rows < max_rows && row + rows < end &&
           attention_chunk(limits, int64_t{task.position} + rows + 1) == task.chunk)
      ++rows;
    task.num_rows = rows;
    const int64_t keys = int64_t{task.position} + rows;
    const int64_t runs = std::max<int64_t>((keys + run_keys / 2) / run_keys, 1);
    task.run = static_cast<int32_t>(ceil_div(num_splits(task), runs));
    tasks.push_back(task);
    row += rows;
  }
}

// Keys of a run: half of what each SM reads in this step. Results of several runs meet in memory,
// which costs as much time as reading some hundred keys; two units on each SM balance well, since
// one that is left alone reads faster.
int64_t decode_run_keys(const AttentionPlanLimits& limits, std::span<const int32_t> query_start,
                        std::span<const int32_t> positions) {
  int64_t keys = 0;
  for (size_t s = 0; s + 1 < query_start.size(); ++s) {
    const int32_t begin = query_start[s], end = query_start[s + 1];
    if (begin < end && end - begin <= kAttentionDecodeRows)
      keys += positions[static_cast<size_t>(end) - 1] + 1;
  }
  return std::max<int64_t>(keys * limits.kv_heads / (int64_t{2} * limits.num_sms), 1);
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
    task.run = 1;
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
  const int64_t run_keys = decode_run_keys(limits, query_start, positions);
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
      add_decode_tasks(limits, s, begin, end, position, run_keys, decode_tasks);
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
