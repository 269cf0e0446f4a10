// Launchers of paged_attention on CUDA: what the kernels get, in raw pointers.
#pragma once

#include <cstdint>

#include "ops/attention_plan.h"
#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

struct PagedAttentionParams {
  const void* q = nullptr;                // [rows, q_heads, head_dim], 16-bit
  const int32_t* block_tables = nullptr;  // [sequences, table_stride]
  int64_t table_stride = 0;               // elements
  const void* cache = nullptr;  // [blocks][k|v][kv_heads][16 tokens of paged_attention_layout.h]
  void* out = nullptr;          // k-tiled activation of [rows, q_heads * head_dim]
  int64_t rows = 0;             // of q and out
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;              // even, at most 256
  bool is_f16 = false;           // type of q, cache and out; else bf16
  float scale = 1.0f;            // > 0
  int window = 0;                // 0: none
  const float* sinks = nullptr;  // [q_heads] or null

  const AttentionItem* items = nullptr;  // of this kernel
  const int32_t* count = nullptr;        // on the device
  int32_t* counters = nullptr;           // see AttentionWorkspaceLayout
  float* sums = nullptr;
  float* values = nullptr;
};

// Decode-like items. The grid does not depend on the step: one CTA an SM.
void attention_decode(const PagedAttentionParams& params, const CudaExec& exec);

// Prefill-like items, `num_items` of them (also at params.count).
void attention_prefill(const PagedAttentionParams& params, int num_items, const CudaExec& exec);

// On devices with wgmma, heads of 64 and 128: what attention_prefill takes there.
void attention_prefill_wgmma(const PagedAttentionParams& params, int num_items,
                             const CudaExec& exec);

}  // namespace donar::ops::cuda
