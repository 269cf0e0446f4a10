#include "ops/qk_norm_rope_store.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void qk_norm_rope_store(Exec& ex, TensorView qkv, TensorView positions, TensorView slots,
                        TensorView q_norm, TensorView k_norm, float eps, TensorView cos_sin,
                        int q_heads, const kv::KvLayer& cache, TensorView q) {
  qkv = qkv.as_parts();
  const int64_t rows = qkv.dim(1);
  DONAR_CHECK(qkv.dim(2) == int64_t{q_heads + 2 * cache.kv_heads} * cache.head_dim,
              "qkv [{}, {}] for {} + 2 * {} heads of {}", rows, qkv.dim(2), q_heads, cache.kv_heads,
              cache.head_dim);
  DONAR_CHECK(positions.dim(0) == rows && slots.dim(0) == rows, "{} rows, {} positions, {} slots",
              rows, positions.dim(0), slots.dim(0));
  DONAR_CHECK(cache.head_dim % 2 == 0 && cos_sin.rank == 3 && cos_sin.dim(1) == 2 &&
              cos_sin.dim(2) == cache.head_dim / 2);
  DONAR_CHECK(q_norm.data == nullptr || q_norm.dim(0) == cache.head_dim);
  DONAR_CHECK(k_norm.data == nullptr || k_norm.dim(0) == cache.head_dim);
  DONAR_CHECK(qkv.dim(0) == 1 && (q.data == nullptr || q.data == qkv.data),
              "q is rotated in place");
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t position = positions.as<int32_t>()[i];
    const int32_t slot = slots.as<int32_t>()[i];
    DONAR_CHECK(position >= 0 && position < cos_sin.dim(0), "position {} of {}", position,
                cos_sin.dim(0));
    DONAR_CHECK(slot < cache.num_blocks * kv::kBlockTokens, "slot {} of {} blocks", slot,
                cache.num_blocks);
  }
  cpu::qk_norm_rope_store(ex, qkv.part(0), positions, slots, q_norm, k_norm, eps, cos_sin, q_heads,
                          cache);
}

}  // namespace donar::ops
