// Cuts a batch into items (sequence, query tile, kv heads) and lets the threads take them. Where
// there are too few items for the threads to share fairly, the splits of each are handed out
// instead; the sums are the same either way, so the result is too.
#include "ops/paged_attention.h"

#include <algorithm>

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"
#include "ops/cpu/tile_runs.h"

namespace donar::ops::cpu {
namespace {

constexpr int64_t kFairUnits = 4;        // pieces of work per thread, so that none waits long
constexpr int64_t kPartsPerThread = 16;  // parts between two merges

int64_t padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }
int64_t part_floats(int head_dim) { return kAttentionSharedRows * (padded_head(head_dim) + 2); }

AttentionPart part_at(float* memory, int64_t index, int head_dim) {
  float* at = memory + index * part_floats(head_dim);
  float* max = at + kAttentionSharedRows * padded_head(head_dim);
  return {at, max, max + kAttentionSharedRows};
}

struct SplitRange {
  int first, last;
  int count() const { return last - first + 1; }
};

SplitRange splits_of(const AttentionItem& item) {
  const auto [low, high] = std::minmax_element(item.positions, item.positions + item.queries);
  const int first = item.window > 0 ? std::max(*low - item.window + 1, 0) : 0;
  return {first / kAttentionSplit, *high / kAttentionSplit};
}

// The batch as items, numbered. The query tiles of a kv head follow each other, so that they find
// its keys in the second cache; the later ones see more keys and come first.
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
    share_kv_heads(1);
  }
  int64_t count() const { return count_; }

  // Items take up to `most` kv heads where their rows are few enough: the keys of a block's heads
  // lie one after the other, so a sequence is then read in longer runs.
  void share_kv_heads(int most) {
    most_kv_heads_ = most;
    count_ = 0;
    for (int64_t s = 0; s < sequences_; ++s) count_ += tiles_of(s) * parts_of(s);
  }

  AttentionItem item(int64_t index, std::byte* scratch) const {
    int64_t s = 0;
    while (index >= tiles_of(s) * parts_of(s)) {
      index -= tiles_of(s) * parts_of(s);
      ++s;
    }
    const int64_t tile = tiles_of(s) - 1 - index % tiles_of(s);
    const int part = static_cast<int>(index / tiles_of(s));
    const int kv_head = part / head_parts_ * kv_heads_of(s);
    const int first_head = part % head_parts_ * heads_;
    const int64_t row = starts_[s] + tile * queries_;
    const int q_head = kv_head * group_ + first_head;
    return {.q = qkv_.row<float>(row) + int64_t{q_head} * cache_.head_dim,
            .q_stride = qkv_.stride[0],
            .positions = positions_.as<int32_t>() + row,
            .queries = static_cast<int>(std::min<int64_t>(queries_, starts_[s + 1] - row)),
            .kv_heads = std::min(kv_heads_of(s), cache_.kv_heads - kv_head),
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
  int64_t rows_of(int64_t s) const { return starts_[s + 1] - starts_[s]; }
  int64_t tiles_of(int64_t s) const { return (rows_of(s) + queries_ - 1) / queries_; }
  // kv heads of one item. An item of several has all query heads of each.
  int kv_heads_of(int64_t s) const {
    const int64_t rows = std::max<int64_t>(rows_of(s), 1) * group_;
    if (rows > kAttentionSharedRows) return 1;
    return std::min(most_kv_heads_, kAttentionSharedRows / static_cast<int>(rows));
  }
  int64_t parts_of(int64_t s) const {
    const int each = kv_heads_of(s);
    return int64_t{(cache_.kv_heads + each - 1) / each} * head_parts_;
  }

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
  int most_kv_heads_ = 1;
  int64_t count_ = 0;
};

// One of the pieces that a thread takes, and what it takes next as far as it can know.
struct Turn {
  int64_t piece;
  int64_t next;    // or -1
  bool announced;  // it was the next one of the turn before
  std::byte* scratch;
};

// Calls run(turn) for `count` pieces. Threads go through neighbouring ones, so that they can ask
// for what the next one reads.
template <class Run>
void take_turns(Exec& ex, int64_t count, std::byte* scratch, int64_t scratch_bytes, Run run) {
  const int threads = ex.pool->num_threads();
  TileRuns runs(count, /*grain=*/1, threads, /*streams=*/1);
  ex.pool->parallel_threads(std::min<int64_t>(threads, count), [&](int thread) {
    const TileRange share = TileRuns::share(count, thread, threads);
    int64_t next = -1;
    runs.work(thread, count, [&](TileRange taken, TileRange) {
      const int64_t piece = taken.first;
      const bool announced = piece == next;
      next = piece >= share.first && piece + 1 < share.end ? piece + 1 : -1;
      run(Turn{piece, next, announced, scratch + thread * scratch_bytes});
    });
  });
}

// How many splits the items have together; 0 if one has too many rows to be shared.
int64_t shared_splits(const Items& items) {
  int64_t splits = 0;
  for (int64_t i = 0; i < items.count(); ++i) {
    const AttentionItem item = items.item(i, nullptr);
    if (item.kv_heads * item.queries * item.heads > kAttentionSharedRows) return 0;
    splits += splits_of(item).count();
  }
  return splits;
}

// Chooses the items so that the threads have kFairUnits pieces each if the batch has them, with as
// many kv heads together as that allows; true if the pieces are splits rather than items.
bool plan(const Exec& ex, const kv::KvLayer& cache, Items& items) {
  const int threads = ex.pool->num_threads();
  const int64_t wanted = threads == 1 ? 1 : kFairUnits * threads;
  items.share_kv_heads(cache.kv_heads);
  if (items.count() >= wanted) return false;
  bool by_splits = shared_splits(items) > items.count();
  for (int heads = cache.kv_heads; heads >= 1; heads = heads == 1 ? 0 : (heads + 1) / 2) {
    items.share_kv_heads(heads);
    if ((by_splits ? shared_splits(items) : items.count()) >= wanted) break;
  }
  return by_splits && items.count() < wanted;
}

void attend_by_splits(Exec& ex, const Items& items, std::byte* scratch, int64_t scratch_bytes,
                      int head_dim) {
  const Kernels& table = kernels(ex);
  const int threads = ex.pool->num_threads();
  const int64_t wave = kPartsPerThread * threads;
  auto* parts = ex.arena->take<float>(wave * part_floats(head_dim));
  auto* totals = ex.arena->take<float>(items.count() * part_floats(head_dim));
  struct Unit {
    int64_t item;
    int split;
  };
  auto* units = ex.arena->take<Unit>(wave);
  int64_t waiting = 0;
  const auto run_wave = [&] {
    take_turns(ex, waiting, scratch, scratch_bytes, [&](const Turn& turn) {
      const Unit& unit = units[turn.piece];
      AttentionAhead ahead{.announced = turn.announced};
      AttentionItem next;
      if (turn.next >= 0) {
        next = items.item(units[turn.next].item, turn.scratch);
        ahead.item = &next;
        ahead.split = units[turn.next].split;
      }
      table.attention_split(items.item(unit.item, turn.scratch), unit.split,
                            part_at(parts, turn.piece, head_dim), ahead);
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

// The larger one of what attention_kernels.h and amx_attention.h take.
int64_t attention_scratch_bytes(int head_dim) {
  const int64_t head = padded_head(head_dim);
  const int64_t parts = 2 * kAttentionRows * (head + 2);
  const int64_t floats = kAttentionRows * (head + kAttentionSplit + 16) + head * (64 + 32) + parts;
  const int64_t steps = (head_dim + 31) / 32;
  const int64_t tiles = (kAttentionSharedRows + 1) * steps + 16 * steps * 2 + 16 * 8 + 2;
  const int64_t amx = tiles * 256 + 2 * kAttentionSplit * 16 + parts;
  return std::max(floats, amx) * int64_t{sizeof(float)};
}

void paged_attention(Exec& ex, TensorView qkv, TensorView positions, TensorView query_start,
                     TensorView block_tables, const kv::KvLayer& cache,
                     const AttentionParams& params, TensorView out) {
  Items items(qkv, positions, query_start, block_tables, cache, params, out);
  if (items.count() == 0) return;
  Arena::Scope scope(*ex.arena);
  const int64_t scratch_bytes = attention_scratch_bytes(cache.head_dim);
  auto* scratch = ex.arena->take<std::byte>(scratch_bytes * ex.pool->num_threads());
  if (plan(ex, cache, items)) {
    attend_by_splits(ex, items, scratch, scratch_bytes, cache.head_dim);
    return;
  }
  const Kernels& table = kernels(ex);
  take_turns(ex, items.count(), scratch, scratch_bytes, [&](const Turn& turn) {
    AttentionAhead ahead{.announced = turn.announced};
    AttentionItem next;
    if (turn.next >= 0) {
      next = items.item(turn.next, turn.scratch);
      ahead.item = &next;
      ahead.split = splits_of(next).first;
    }
    table.attention(items.item(turn.piece, turn.scratch), ahead);
  });
}

uint64_t paged_attention_workspace_bytes(int num_threads, int, int head_dim) {
  const int64_t parts = (kPartsPerThread + kFairUnits) * num_threads;
  const int64_t units = kPartsPerThread * num_threads * 16;
  return static_cast<uint64_t>(attention_scratch_bytes(head_dim) * num_threads +
                               parts * part_floats(head_dim) * int64_t{sizeof(float)} + units +
                               4 * Arena::kAlignment);
}

}  // namespace donar::ops::cpu
