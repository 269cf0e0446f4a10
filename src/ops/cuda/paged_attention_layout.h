// Where CUDA keeps the values of one head of one cache block (16 tokens): written by
// qk_norm_rope_store, read by paged_attention, opaque to everything else. Heads of whole k tiles
// (64, 128, 192, 256) lie k-tiled and swizzled, so that a block is one bulk copy and at once an
// operand of ldmatrix and wgmma; other heads lie token by token.
#pragma once

#include "ops/cuda/common/tiled.h"

namespace donar::ops::cuda {

inline constexpr int kCacheBlockTokens = 16;  // kv::kBlockTokens

// Element offset of (token, d) within the head_dim * 16 elements of one head of one block.
DONAR_HOST_DEVICE constexpr int cache_offset(int token, int d, int head_dim) {
  if (head_dim % kTileK != 0) return token * head_dim + d;
  return static_cast<int>(tiled_offset(token, d, kCacheBlockTokens));
}

}  // namespace donar::ops::cuda
