// Between the q/k/v projection and attention: optional per-head RMSNorm of q and k, rotary
// embedding, and the write of k and v into the cache.
#pragma once

#include "kv/kv_store.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// For every row: q heads and k heads are normalised (if weights are given) and rotated by the row's
// position; k and v are rounded to the cache's dtype and written at the row's slot.
// Rotation pairs element i with i + head_dim / 2.
void qk_norm_rope_store(
    Exec& ex,
    TensorView qkv,        // [parts, rows, (q_heads + 2 * kv_heads) * head_dim] f32, added up in
                           // order, or [1, ...] in ex.activation
    TensorView positions,  // [rows] i32
    TensorView slots,      // [rows] i32: block * kBlockTokens + offset; -1: this row is not stored
    TensorView q_norm,     // [head_dim] f32 or data == nullptr
    TensorView k_norm,     // [head_dim] f32 or data == nullptr
    float eps,
    TensorView
        cos_sin,  // [max_positions, 2, head_dim / 2] f32: cos then sin, attention factor included
    int q_heads, const kv::KvLayer& cache,
    TensorView q = {});  // CUDA: [rows, q_heads * head_dim] ex.activation, out. The CPU rotates q
                         // in place: absent, or the first columns of qkv

}  // namespace donar::ops
