#include "ops/paged_attention.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void paged_attention(Exec& ex, TensorView q, TensorView positions, TensorView query_start,
                     TensorView block_tables, const AttentionPlan&, const kv::KvLayer& cache,
                     const AttentionParams& params, TensorView out) {
  const int64_t rows = q.dim(0);
  const int64_t width = int64_t{params.q_heads} * cache.head_dim;
  DONAR_CHECK(params.q_heads > 0 && params.q_heads % cache.kv_heads == 0,
              "{} query heads on {} kv heads", params.q_heads, cache.kv_heads);
  DONAR_CHECK(q.rank == 2 && q.dim(1) >= width && out.rank == 2 && out.dim(0) == rows &&
                  out.dim(1) == width,
              "q [{}, {}], out [{}, {}]", rows, q.dim(1), out.dim(0), out.dim(1));
  DONAR_CHECK(cache.head_dim % 2 == 0, "head_dim {} is odd", cache.head_dim);
  const int64_t sequences = query_start.dim(0) - 1;
  DONAR_CHECK(sequences >= 0 && block_tables.dim(0) >= sequences && positions.dim(0) == rows);
  const int32_t* starts = query_start.as<int32_t>();
  DONAR_CHECK(starts[0] == 0 && starts[sequences] == rows, "rows [{}, {}) of {}", starts[0],
              starts[sequences], rows);
  for (int64_t s = 0; s < sequences; ++s) {
    DONAR_CHECK(starts[s] <= starts[s + 1], "sequence {} ends before it begins", s);
    for (int32_t row = starts[s]; row < starts[s + 1]; ++row) {
      const int32_t position = positions.as<int32_t>()[row];
      DONAR_CHECK(position >= 0 && position / kv::kBlockTokens < block_tables.dim(1),
                  "position {} of {} blocks", position, block_tables.dim(1));
    }
  }
  cpu::paged_attention(ex, q, positions, query_start, block_tables, cache, params, out);
}

uint64_t paged_attention_workspace_bytes(int num_threads, int q_heads, int head_dim) {
  return cpu::paged_attention_workspace_bytes(num_threads, q_heads, head_dim);
}

}  // namespace donar::ops
