// Which CTA reads which keys: the host cuts a step's attention into work items once, every layer
// runs them. Items are plain integers that travel with the step's copy, so a captured graph replays
// with other sequences and lengths.
#pragma once

#include <cstdint>
#include <span>

namespace donar::ops {

// Rows of one sequence x keys of a run of splits; every kv head is a unit of work of its own.
// Row r of the item (0 <= r < num_rows) is row `row_begin + r` of the step, at position
// `position + r`. Split i covers keys [i * chunk, (i + 1) * chunk) as far as rows see them. Splits
// have a softmax each and are merged in order, whoever has done them: a row's bits depend on the
// chunk and not on the run.
struct AttentionItem {
  int32_t sequence;   // row of the block tables
  int32_t row_begin;  // first row in the step
  int32_t num_rows;   // >= 1
  int32_t position;   // of the first row
  int32_t split;      // this item's keys begin at split * chunk, a multiple of run * chunk
  int32_t run;        // and end run splits on, or with the last key
  int32_t chunk;      // keys of a split, a multiple of kAttentionChunkMultiple
  int32_t partial;    // partial result of (split s, row r): partial + s * num_rows + r
};
static_assert(sizeof(AttentionItem) == 32);

// The warps that share a split's keys take blocks by absolute index, so chunks are multiples of
// what they take together.
inline constexpr int kAttentionChunkMultiple = 128;
// A sequence with up to this many rows in a step is decode-like: its rows' results are bitwise
// those of the same rows alone.
inline constexpr int kAttentionDecodeRows = 16;
// Query rows x query heads of one kv head that one CTA works on.
inline constexpr int kAttentionDecodeTile = 16;
inline constexpr int kAttentionPrefillTile = 128;

// Fixed when the engine starts. One plan serves all layers of these head counts.
struct AttentionPlanLimits {
  int max_rows = 0;         // rows of a step
  int max_sequences = 0;    // sequences of a step
  int max_decode_rows = 0;  // rows of decode-like sequences that always find room for their partial
                            // results; 0: max_sequences (batch_invariant: max_rows). Beyond, rows
                            // run as prefill-like ones
  int max_model_len = 0;    // keys of a sequence
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int num_sms = 0;
  bool batch_invariant = false;  // every row is decode-like: slower for prompts
};

// Room that the step's copy needs for each list; only the counted items need be copied.
struct AttentionItemCapacity {
  int64_t decode = 0;
  int64_t prefill = 0;
};
AttentionItemCapacity max_attention_items(const AttentionPlanLimits& limits);

// Where things lie in AttentionPlan::workspace, in bytes. Zeroed once when allocated; kernels leave
// the counters zero.
struct AttentionWorkspaceLayout {
  uint64_t counters = 0;  // [max_rows, kv_heads, decode tiles of a group] i32: splits that arrived
  uint64_t sums = 0;      // [partial rows, q_heads, 2] f32: largest logit, sum of weights
  uint64_t values = 0;    // [partial rows, q_heads, head_dim] f32: weighted values, not divided
  uint64_t bytes = 0;
};
AttentionWorkspaceLayout attention_workspace_layout(const AttentionPlanLimits& limits);
inline uint64_t attention_workspace_bytes(const AttentionPlanLimits& limits) {
  return attention_workspace_layout(limits).bytes;
}

// Keys of a split for a row that sees `length` keys: a function of nothing else of the step, as
// long as that has no more than kDecodeRows rows.
int attention_chunk(const AttentionPlanLimits& limits, int64_t length);

struct AttentionItemCounts {
  int32_t decode = 0;   // the device's copy is AttentionPlan::counts[0]
  int32_t prefill = 0;  // and counts[1]
};
static_assert(sizeof(AttentionItemCounts) == 8);

// Fills both lists, longest work first. Sequence s has rows [query_start[s], query_start[s + 1])
// at consecutive positions; sequences without rows are left out. Rows past query_start.back()
// (padding of a captured graph) belong to no item. The lists hold max_attention_items().
// allow_prefill = false: every sequence has at most kAttentionDecodeRows rows and at most
// max_decode_rows rows are there in all (a step that replays a graph).
AttentionItemCounts plan_attention(const AttentionPlanLimits& limits,
                                   std::span<const int32_t> query_start,  // [sequences + 1]
                                   std::span<const int32_t> positions,    // [>= rows]
                                   bool allow_prefill, AttentionItem* decode,
                                   AttentionItem* prefill);

// The plan as paged_attention gets it on CUDA: device addresses, items at multiples of 16 bytes.
// Items and counts are brought by a copy, never by a kernel: attention reads them before it waits
// for the kernel before it. Unused on the CPU.
struct AttentionPlan {
  const AttentionItem* decode_items = nullptr;   // [capacity.decode]
  const AttentionItem* prefill_items = nullptr;  // [capacity.prefill]
  const int32_t* counts = nullptr;               // [2]: decode, prefill
  bool has_decode_items = true;   // host: false skips the decode kernel (its count is 0)
  int32_t num_prefill_items = 0;  // host: counts[1], or more; 0 in captured graphs
  void* workspace = nullptr;      // attention_workspace_bytes(limits), 256-byte aligned
  AttentionPlanLimits limits;
};

}  // namespace donar::ops
