#include "ops/qk_norm_rope_store.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/qk_norm_rope_store.h"
#include "ops/cuda_limits.h"
#include "tensor/cuda.h"

namespace donar::ops {

namespace {

// Kernels read these 16 bytes at a time.
bool is_aligned(const TensorView& view) { return reinterpret_cast<uintptr_t>(view.data) % 16 == 0; }

void store_on_cuda(Exec& ex, const TensorView& qkv, const TensorView& positions,
                   const TensorView& slots, const TensorView& q_norm, const TensorView& k_norm,
                   float eps, const TensorView& cos_sin, int q_heads, const kv::KvLayer& cache,
                   const TensorView& q) {
  DONAR_CHECK(cache.dtype == ex.activation && q.dtype == ex.activation,
              "cache of {}, q of {}, activations of {}", dtype_name(cache.dtype),
              dtype_name(q.dtype), dtype_name(ex.activation));
  DONAR_CHECK(qkv.dtype == DType::kF32 || (qkv.dtype == ex.activation && qkv.dim(0) == 1),
              "{} parts of {}", qkv.dim(0), dtype_name(qkv.dtype));
  DONAR_CHECK(cache.head_dim <= kCudaMaxHeadDim, "heads of {}", cache.head_dim);
  DONAR_CHECK(is_aligned(qkv) && is_aligned(q_norm) && is_aligned(k_norm) && is_aligned(cos_sin) &&
              is_aligned(q));
  DONAR_CHECK(qkv.dim(1) * (q_heads + 2 * int64_t{cache.kv_heads}) <= kCudaMaxRowHeads, "{} rows",
              qkv.dim(1));
  if constexpr (kCuda) {
    if (qkv.dim(1) == 0) return;
    cuda::qk_norm_rope_store({.qkv = qkv.data,
                              .parts = static_cast<int>(qkv.dim(0)),
                              .is_f32 = qkv.dtype == DType::kF32,
                              .is_f16 = ex.activation == DType::kF16,
                              .rows = qkv.dim(1),
                              .q_heads = q_heads,
                              .kv_heads = cache.kv_heads,
                              .head_dim = cache.head_dim,
                              .positions = positions.as<int32_t>(),
                              .slots = slots.as<int32_t>(),
                              .q_norm = static_cast<const float*>(q_norm.data),
                              .k_norm = static_cast<const float*>(k_norm.data),
                              .eps = eps,
                              .cos_sin = cos_sin.as<float>(),
                              .q = q.data,
                              .cache = cache.data},
                             *ex.cuda);
  }
}

}  // namespace

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
  if (ex.on_cuda())
    return store_on_cuda(ex, qkv, positions, slots, q_norm, k_norm, eps, cos_sin, q_heads, cache,
                         q);
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
