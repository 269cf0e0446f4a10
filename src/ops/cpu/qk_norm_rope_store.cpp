#include "ops/qk_norm_rope_store.h"

#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"

namespace donar::ops::cpu {
namespace {

constexpr int kMaxHeadDim = 1024;

}  // namespace

void qk_norm_rope_store(Exec& ex, TensorView qkv, TensorView positions, TensorView slots,
                        TensorView q_norm, TensorView k_norm, float eps, TensorView cos_sin,
                        int q_heads, const kv::KvLayer& cache) {
  const Kernels& table = kernels(ex);
  const int head_dim = cache.head_dim;
  DONAR_CHECK(head_dim <= kMaxHeadDim, "head_dim {}", head_dim);
  const float* q_weight = q_norm.data != nullptr ? q_norm.as<float>() : nullptr;
  const float* k_weight = k_norm.data != nullptr ? k_norm.as<float>() : nullptr;
  const auto size = static_cast<int64_t>(dtype_size(cache.dtype));
  auto* data = static_cast<std::byte*>(cache.data);
  const int64_t rows = qkv.dim(0);
  ex.pool->parallel_for(
      rows, rows_per_piece(ex, rows, qkv.dim(1)), [&](int64_t begin, int64_t end) {
        alignas(64) float rotated[kMaxHeadDim];
        for (int64_t row = begin; row < end; ++row) {
          float* q = qkv.row<float>(row);
          const float* angles =
              cos_sin.as<float>() + positions.as<int32_t>()[row] * cos_sin.stride[0];
          for (int head = 0; head < q_heads; ++head) {
            table.norm_rope(q + head * head_dim, q_weight, eps, angles, head_dim,
                            q + head * head_dim);
          }
          const int64_t slot = slots.as<int32_t>()[row];
          if (slot < 0) continue;
          const int64_t block = slot / kv::kBlockTokens;
          const int offset = static_cast<int>(slot % kv::kBlockTokens);
          const float* k = q + q_heads * head_dim;
          const float* v = k + cache.kv_heads * head_dim;
          for (int head = 0; head < cache.kv_heads; ++head) {
            table.norm_rope(k + head * head_dim, k_weight, eps, angles, head_dim, rotated);
            table.store_kv(rotated, head_dim, cache.dtype,
                           data + cache.index(block, /*is_value=*/false, head, offset) * size);
            table.store_kv(v + head * head_dim, head_dim, cache.dtype,
                           data + cache.index(block, /*is_value=*/true, head, offset) * size);
          }
        }
      });
}

}  // namespace donar::ops::cpu
