// The CPU side of every operation: splits the work over threads and calls the kernels of ex.isa.
// Shapes were checked by the op.
#pragma once

#include "kv/kv_store.h"
#include "ops/paged_attention.h"
#include "quant/linear_weight.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops::cpu {

// A fork costs about a microsecond: below this many floats of work an op of a few flops per float
// runs on the caller.
inline constexpr int64_t kForkFloats = 16384;

// Rows per piece so that `rows` rows of `dim` floats fork only when it pays.
int64_t rows_per_piece(const Exec& ex, int64_t rows, int64_t dim);

void linear(Exec& ex, TensorView x, const quant::LinearGroup& group, TensorView y);
uint64_t linear_workspace_bytes(int64_t rows, int64_t k);
void read_ahead(Exec& ex, const quant::LinearGroup& group, int64_t rows);
void add_rms_norm(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                  TensorView y);
// Of the rows named; x keeps its values.
void add_rms_norm_rows(Exec& ex, TensorView x, TensorView delta, TensorView weight, float eps,
                       TensorView y, TensorView rows);
void silu_mul(Exec& ex, TensorView gate_up, TensorView y);
void embedding(Exec& ex, TensorView ids, const quant::LinearWeight& table, TensorView y);
void gather_rows(Exec& ex, TensorView x, TensorView index, TensorView y);
void qk_norm_rope_store(Exec& ex, TensorView qkv, TensorView positions, TensorView slots,
                        TensorView q_norm, TensorView k_norm, float eps, TensorView cos_sin,
                        int q_heads, const kv::KvLayer& cache);
void paged_attention(Exec& ex, TensorView qkv, TensorView positions, TensorView query_start,
                     TensorView block_tables, const kv::KvLayer& cache,
                     const AttentionParams& params, TensorView out);
uint64_t paged_attention_workspace_bytes(int num_threads, int q_heads, int head_dim);

}  // namespace donar::ops::cpu
