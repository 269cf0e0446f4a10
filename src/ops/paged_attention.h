// Attention over the paged cache: prefill, decode and verification rows mixed in one batch.
#pragma once

#include <cstdint>

#include "kv/kv_store.h"
#include "ops/activation.h"
#include "ops/attention_plan.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

struct AttentionParams {
  int q_heads = 0;
  float scale = 1.0f;  // usually head_dim^-0.5
  int window = 0;      // keys visible to a query, itself included; 0: all before it
  const float* sinks =
      nullptr;  // [q_heads]: an extra logit per head that takes weight and gives no value; or null
};

// out[r] = softmax(q[r] . K / ...) V over keys 0..position of the row's sequence (causal, and
// within the window). Keys and values are read back from the cache after rounding. On the CPU, a
// cache of BF16 rounds q and the weights to bf16 too. Softmax over splits of the keys at absolute
// positions, merged in order, so a row's result does not depend on the rest of the batch.
void paged_attention(
    Exec& ex,
    TensorView q,               // [rows, q_heads * head_dim]; f32 (CPU), ex.activation (CUDA)
    TensorView positions,       // [rows] i32
    TensorView query_start,     // [sequences + 1] i32: rows of sequence s are [query_start[s],
                                // query_start[s + 1])
    TensorView block_tables,    // [sequences, max_blocks] i32
    const AttentionPlan& plan,  // CUDA: the step's work items; the CPU plans for itself
    const kv::KvLayer& cache, const AttentionParams& params,
    TensorView out);  // activation of [rows, q_heads * head_dim], out

uint64_t paged_attention_workspace_bytes(int num_threads, int q_heads, int head_dim);

}  // namespace donar::ops
