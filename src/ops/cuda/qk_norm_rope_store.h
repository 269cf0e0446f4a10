// Launcher of qk_norm_rope_store on CUDA: what the kernel gets, in raw pointers.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

struct QkNormRopeStoreParams {
  const void* qkv = nullptr;  // [parts, rows, q_heads + 2 * kv_heads, head_dim], f32 or 16-bit
  int parts = 1;              // added up in order
  bool is_f32 = true;         // type of qkv; else that of q
  bool is_f16 = false;        // 16-bit type of q and cache; else bf16
  int64_t rows = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  // What does not come from the kernel before (weights, and what the step's copy brought) is read
  // before the wait for it.
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* slots = nullptr;      // [rows], -1: not stored
  const float* q_norm = nullptr;       // [head_dim] or null
  const float* k_norm = nullptr;       // [head_dim] or null
  float eps = 0.0f;
  const float* cos_sin = nullptr;  // [max_positions, 2, head_dim / 2]
  void* q = nullptr;               // [rows, q_heads, head_dim]
  void* cache = nullptr;           // [blocks][k|v][kv_heads][16 tokens, paged_attention_layout.h]
};

void qk_norm_rope_store(const QkNormRopeStoreParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
