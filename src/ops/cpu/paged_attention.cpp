// Cuts a batch into items (sequence, kv head, query tile) and lets the threads take them, the longest last tile first.
#include "ops/paged_attention.h"

#include <algorithm>
#include <atomic>

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"

namespace donar::ops::cpu {
namespace {

// How the query heads and rows of a sequence are cut.
struct Cut {
  int group;           // query heads per kv head
  int heads_per_item;  // of those, in one item
  int head_parts;
  int queries;         // query rows in one item
};

Cut cut_of(int q_heads, int kv_heads) {
  const int group = q_heads / kv_heads;
  const int heads = std::min(group, kAttentionRows);
  return {group, heads, (group + heads - 1) / heads, std::max(kAttentionRows / heads, 1)};
}

}  // namespace

void paged_attention(Exec& ex, TensorView qkv, TensorView positions, TensorView query_start, TensorView block_tables,
                     const kv::KvLayer& cache, const AttentionParams& params, TensorView out) {
  const int64_t sequences = query_start.dim(0) - 1;
  const int32_t* starts = query_start.as<int32_t>();
  const Cut cut = cut_of(params.q_heads, cache.kv_heads);
  const int head_dim = cache.head_dim;
  const int64_t per_tile = int64_t{cache.kv_heads} * cut.head_parts;
  const auto tiles_of = [&](int64_t s) { return (starts[s + 1] - starts[s] + cut.queries - 1) / cut.queries; };
  int64_t items = 0;
  for (int64_t s = 0; s < sequences; ++s) items += tiles_of(s) * per_tile;
  if (items == 0) return;

  Arena::Scope scope(*ex.arena);
  const int64_t scratch_bytes = attention_scratch_bytes(head_dim);
  const int threads = ex.pool->num_threads();
  auto* scratch = ex.arena->take<std::byte>(scratch_bytes * threads);
  const Kernels& table = kernels(ex);

  const auto run_item = [&](int64_t index, std::byte* memory) {
    int64_t s = 0;
    while (index >= tiles_of(s) * per_tile) index -= tiles_of(s++) * per_tile;
    // Later tiles see more keys: first.
    const int64_t tile = tiles_of(s) - 1 - index / per_tile;
    const int kv_head = static_cast<int>(index % per_tile) / cut.head_parts;
    const int first_head = static_cast<int>(index % per_tile) % cut.head_parts * cut.heads_per_item;
    const int heads = std::min(cut.heads_per_item, cut.group - first_head);
    const int64_t row = starts[s] + tile * cut.queries;
    const int queries = static_cast<int>(std::min<int64_t>(cut.queries, starts[s + 1] - row));
    const int q_head = kv_head * cut.group + first_head;
    table.attention({.q = qkv.row<float>(row) + int64_t{q_head} * head_dim,
                     .q_stride = qkv.stride[0],
                     .positions = positions.as<int32_t>() + row,
                     .queries = queries,
                     .heads = heads,
                     .block_table = block_tables.row<int32_t>(s),
                     .cache = cache.data,
                     .dtype = cache.dtype,
                     .block_elements = cache.block_elements(),
                     .k_offset = cache.index(0, /*is_value=*/false, kv_head, 0),
                     .v_offset = cache.index(0, /*is_value=*/true, kv_head, 0),
                     .head_dim = head_dim,
                     .scale = params.scale,
                     .window = params.window,
                     .sinks = params.sinks != nullptr ? params.sinks + q_head : nullptr,
                     .out = out.row<float>(row) + int64_t{q_head} * head_dim,
                     .out_stride = out.stride[0],
                     .scratch = memory});
  };

  // One piece per thread, so that a piece's number is its scratch; the items themselves are claimed one by one.
  std::atomic<int64_t> next{0};
  ex.pool->parallel_for(std::min<int64_t>(threads, items), 1, [&](int64_t begin, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
      run_item(i, scratch + begin * scratch_bytes);
    }
  });
}

uint64_t paged_attention_workspace_bytes(int num_threads, int, int head_dim) {
  return static_cast<uint64_t>(attention_scratch_bytes(head_dim) * num_threads + 64);
}

}  // namespace donar::ops::cpu
