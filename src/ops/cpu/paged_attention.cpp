// Cuts a batch into items (sequence, kv head, query tile) and lets the threads take them. Where
// there are fewer long items than threads can share, their splits are handed out instead; the sums
// are the same either way, so the result is too.
#include "ops/paged_attention.h"

#include <algorithm>
#include <atomic>

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"

namespace donar::ops::cpu {
namespace {

// Decode items that share their splits: at most this many rows, and fewer than kSharedItems items
// per thread.
constexpr int kSharedRows = 16;
constexpr int64_t kSharedItems = 2;
constexpr int64_t kPartsPerThread = 8;  // parts between two merges

int64_t padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }
int64_t part_floats(int head_dim) { return kSharedRows * (padded_head(head_dim) + 2); }

AttentionPart part_at(float* memory, int64_t index, int head_dim) {
  float* at = memory + index * part_floats(head_dim);
  float* max = at + kSharedRows * padded_head(head_dim);
  return {at, max, max + kSharedRows};
}

// The batch as items, numbered; later query tiles of a sequence see more keys and come first.
class Items {
 public:
  Items(TensorView qkv, TensorView positions, TensorView query_start, TensorView block_tables,
        const kv::KvLayer& cache, const AttentionParams& params, TensorView out)
      : qkv_(qkv),
        positions_(positions),
        block_tables_(block_tables),
        cache_(cache),
        params_(params),
        out_(out),
        starts_(query_start.as<int32_t>()),
        sequences_(query_start.dim(0) - 1) {
    group_ = params.q_heads / cache.kv_heads;
    heads_ = std::min(group_, kAttentionRows);
    head_parts_ = (group_ + heads_ - 1) / heads_;
    queries_ = std::max(kAttentionRows / heads_, 1);
    for (int64_t s = 0; s < sequences_; ++s) count_ += tiles_of(s) * per_tile();
  }
  int64_t count() const { return count_; }

  AttentionItem item(int64_t index, std::byte* scratch) const {
    int64_t s = 0;
    while (index >= tiles_of(s) * per_tile()) index -= tiles_of(s++) * per_tile();
    const int64_t tile = tiles_of(s) - 1 - index / per_tile();
    const int kv_head = static_cast<int>(index % per_tile()) / head_parts_;
    const int first_head = static_cast<int>(index % per_tile()) % head_parts_ * heads_;
    const int64_t row = starts_[s] + tile * queries_;
    const int q_head = kv_head * group_ + first_head;
    return {.q = qkv_.row<float>(row) + int64_t{q_head} * cache_.head_dim,
            .q_stride = qkv_.stride[0],
            .positions = positions_.as<int32_t>() + row,
            .queries = static_cast<int>(std::min<int64_t>(queries_, starts_[s + 1] - row)),
            .heads = std::min(heads_, group_ - first_head),
            .block_table = block_tables_.row<int32_t>(s),
            .cache = cache_.data,
            .dtype = cache_.dtype,
            .block_elements = cache_.block_elements(),
            .k_offset = cache_.index(0, /*is_value=*/false, kv_head, 0),
            .v_offset = cache_.index(0, /*is_value=*/true, kv_head, 0),
            .head_dim = cache_.head_dim,
            .scale = params_.scale,
            .window = params_.window,
            .sinks = params_.sinks != nullptr ? params_.sinks + q_head : nullptr,
            .out = out_.row<float>(row) + int64_t{q_head} * cache_.head_dim,
            .out_stride = out_.stride[0],
            .scratch = scratch};
  }

 private:
  int64_t tiles_of(int64_t s) const {
    return (starts_[s + 1] - starts_[s] + queries_ - 1) / queries_;
  }
  int64_t per_tile() const { return int64_t{cache_.kv_heads} * head_parts_; }

  TensorView qkv_, positions_, block_tables_;
  const kv::KvLayer& cache_;
  const AttentionParams& params_;
  TensorView out_;
  const int32_t* starts_;
  int64_t sequences_;
  int group_;  // query heads per kv head
  int heads_;  // of those, in one item
  int head_parts_;
  int queries_;  // query rows in one item
  int64_t count_ = 0;
};

// Calls run(i, scratch) for i in [0, count): one piece per thread, so that a piece's number is its
// scratch; i is claimed one by one.
template <class Run>
void claim_each(Exec& ex, int64_t count, std::byte* scratch, int64_t scratch_bytes, Run run) {
  std::atomic<int64_t> next{0};
  ex.pool->parallel_for(
      std::min<int64_t>(ex.pool->num_threads(), count), 1, [&](int64_t piece, int64_t) {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
          run(i, scratch + piece * scratch_bytes);
      });
}

struct SplitRange {
  int first, last;
};

SplitRange splits_of(const AttentionItem& item) {
  const auto [low, high] = std::minmax_element(item.positions, item.positions + item.queries);
  const int first = item.window > 0 ? std::max(*low - item.window + 1, 0) : 0;
  return {first / kAttentionSplit, *high / kAttentionSplit};
}

// Whether handing out splits helps: few items, small ones, and more splits than items.
bool share_splits(const Exec& ex, const Items& items) {
  const int threads = ex.pool->num_threads();
  if (threads == 1 || items.count() >= kSharedItems * threads) return false;
  int64_t splits = 0;
  for (int64_t i = 0; i < items.count(); ++i) {
    const AttentionItem item = items.item(i, nullptr);
    if (item.queries * item.heads > kSharedRows) return false;
    const SplitRange range = splits_of(item);
    splits += range.last - range.first + 1;
  }
  return splits > items.count();
}

void attend_by_splits(Exec& ex, const Items& items, std::byte* scratch, int64_t scratch_bytes,
                      int head_dim) {
  const Kernels& table = kernels(ex);
  const int threads = ex.pool->num_threads();
  const int64_t wave = kPartsPerThread * threads;
  auto* parts = ex.arena->take<float>(wave * part_floats(head_dim));
  auto* totals = ex.arena->take<float>(kSharedItems * threads * part_floats(head_dim));
  struct Unit {
    int64_t item;
    int split;
  };
  auto* units = ex.arena->take<Unit>(wave);
  int64_t waiting = 0;
  const auto run_wave = [&] {
    claim_each(ex, waiting, scratch, scratch_bytes, [&](int64_t i, std::byte* memory) {
      table.attention_split(items.item(units[i].item, memory), units[i].split,
                            part_at(parts, i, head_dim));
    });
    for (int64_t i = 0; i < waiting; ++i) {  // in order
      table.attention_merge(items.item(units[i].item, scratch), part_at(parts, i, head_dim),
                            part_at(totals, units[i].item, head_dim));
    }
    waiting = 0;
  };
  for (int64_t i = 0; i < items.count(); ++i) {
    const AttentionItem item = items.item(i, scratch);
    table.attention_begin(item, part_at(totals, i, head_dim));
    const SplitRange range = splits_of(item);
    for (int split = range.first; split <= range.last; ++split) {
      units[waiting++] = {i, split};
      if (waiting == wave) run_wave();
    }
  }
  if (waiting > 0) run_wave();
  for (int64_t i = 0; i < items.count(); ++i)
    table.attention_end(items.item(i, scratch), part_at(totals, i, head_dim));
}

}  // namespace

void paged_attention(Exec& ex, TensorView qkv, TensorView positions, TensorView query_start,
                     TensorView block_tables, const kv::KvLayer& cache,
                     const AttentionParams& params, TensorView out) {
  const Items items(qkv, positions, query_start, block_tables, cache, params, out);
  if (items.count() == 0) return;
  Arena::Scope scope(*ex.arena);
  const int64_t scratch_bytes = attention_scratch_bytes(cache.head_dim);
  auto* scratch = ex.arena->take<std::byte>(scratch_bytes * ex.pool->num_threads());
  if (share_splits(ex, items)) {
    attend_by_splits(ex, items, scratch, scratch_bytes, cache.head_dim);
    return;
  }
  const Kernels& table = kernels(ex);
  claim_each(ex, items.count(), scratch, scratch_bytes,
             [&](int64_t i, std::byte* memory) { table.attention(items.item(i, memory)); });
}

uint64_t paged_attention_workspace_bytes(int num_threads, int, int head_dim) {
  const int64_t parts = (kPartsPerThread + kSharedItems) * num_threads;
  const int64_t units = kPartsPerThread * num_threads * 16;
  return static_cast<uint64_t>(attention_scratch_bytes(head_dim) * num_threads +
                               parts * part_floats(head_dim) * int64_t{sizeof(float)} + units +
                               4 * 64);
}

}  // namespace donar::ops::cpu
