#include "ops/paged_attention.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/paged_attention.h"
#include "ops/cuda_limits.h"
#include "tensor/cuda.h"

namespace donar::ops {

namespace {

void attend_on_cuda(Exec& ex, const TensorView& q, const TensorView& block_tables,
                    const AttentionPlan& plan, const kv::KvLayer& cache,
                    const AttentionParams& params, const TensorView& out) {
  const AttentionPlanLimits& limits = plan.limits;
  DONAR_CHECK(limits.q_heads == params.q_heads && limits.kv_heads == cache.kv_heads &&
                  limits.head_dim == cache.head_dim,
              "a plan for {} query heads on {} kv heads of {}, a layer of {} on {} of {}",
              limits.q_heads, limits.kv_heads, limits.head_dim, params.q_heads, cache.kv_heads,
              cache.head_dim);
  const int64_t rows = q.dim(0);
  const int64_t width = int64_t{params.q_heads} * cache.head_dim;
  DONAR_CHECK(q.rank == 2 && q.dim(1) == width && q.stride[0] == width &&
                  is_activation(ex, out, rows, width) && rows <= limits.max_rows,
              "q [{}, {}]", rows, q.dim(1));
  DONAR_CHECK(q.dtype == ex.activation && cache.dtype == ex.activation,
              "cache of {}, q of {}, activations of {}", dtype_name(cache.dtype),
              dtype_name(q.dtype), dtype_name(ex.activation));
  DONAR_CHECK(cache.head_dim % 2 == 0 && cache.head_dim <= kCudaMaxHeadDim && params.scale > 0,
              "heads of {}, scale {}", cache.head_dim, params.scale);
  DONAR_CHECK(plan.workspace != nullptr && plan.counts != nullptr);
  if constexpr (kCuda) {
    const AttentionWorkspaceLayout layout = attention_workspace_layout(limits);
    char* workspace = static_cast<char*>(plan.workspace);
    cuda::PagedAttentionParams arguments = {
        .q = q.data,
        .block_tables = block_tables.as<int32_t>(),
        .table_stride = block_tables.stride[0],
        .cache = cache.data,
        .out = out.data,
        .rows = rows,
        .q_heads = params.q_heads,
        .kv_heads = cache.kv_heads,
        .head_dim = cache.head_dim,
        .is_f16 = ex.activation == DType::kF16,
        .scale = params.scale,
        .window = params.window,
        .sinks = params.sinks,
        .items = plan.decode_items,
        .count = plan.counts,
        .counters = reinterpret_cast<int32_t*>(workspace + layout.counters),
        .sums = reinterpret_cast<float*>(workspace + layout.sums),
        .values = reinterpret_cast<float*>(workspace + layout.values)};
    if (plan.has_decode_items) cuda::attention_decode(arguments, *ex.cuda);
    if (plan.num_prefill_items == 0) return;
    arguments.items = plan.prefill_items;
    arguments.count = plan.counts + 1;
    cuda::attention_prefill(arguments, plan.num_prefill_items, *ex.cuda);
  }
}

}  // namespace

void paged_attention(Exec& ex, TensorView q, TensorView positions, TensorView query_start,
                     TensorView block_tables, const AttentionPlan& plan, const kv::KvLayer& cache,
                     const AttentionParams& params, TensorView out) {
  const int64_t rows = q.dim(0);
  const int64_t width = int64_t{params.q_heads} * cache.head_dim;
  DONAR_CHECK(params.q_heads > 0 && params.q_heads % cache.kv_heads == 0,
              "{} query heads on {} kv heads", params.q_heads, cache.kv_heads);
  if (ex.on_cuda()) return attend_on_cuda(ex, q, block_tables, plan, cache, params, out);
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
