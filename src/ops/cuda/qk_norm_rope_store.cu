// Per head and row: sum of the projection's parts, RMSNorm, rotation, and the value's way to q or
// into the cache. A few lanes share a head, each holding the same columns of both halves, since
// rotation pairs column i with i + head_dim / 2.
#include "ops/cuda/qk_norm_rope_store.h"

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/values16.cuh"
#include "ops/cuda/paged_attention_layout.h"

namespace donar::ops::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kMaxHalf = 128;

// kWidth values of a row at once: 16 bytes of f32 (kWidth 4) or of a 16-bit type (8); or one.
template <class In, int kWidth>
__device__ __forceinline__ void read(float (&to)[kWidth], const In* from) {
  if constexpr (kWidth == 1) {
    to[0] = to_float(*from);
  } else if constexpr (sizeof(In) == 4) {
    static_assert(kWidth % 4 == 0);
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  } else {
    static_assert(kWidth == 8);
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 v = unpack2<In>(words[i]);
      to[2 * i] = v.x, to[2 * i + 1] = v.y;
    }
  }
}

template <class T, int kWidth>
__device__ __forceinline__ void write(T* to, const float (&from)[kWidth]) {
  if constexpr (kWidth == 1) {
    const uint32_t bits = pack2<T>(from[0], 0.0f);
    *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(bits);
  } else if constexpr (kWidth == 4) {
    *reinterpret_cast<uint2*>(to) = {pack2<T>(from[0], from[1]), pack2<T>(from[2], from[3])};
  } else {
    static_assert(kWidth == 8);
    *reinterpret_cast<uint4*>(to) = {pack2<T>(from[0], from[1]), pack2<T>(from[2], from[3]),
                                     pack2<T>(from[4], from[5]), pack2<T>(from[6], from[7])};
  }
}

// kWidth columns of both halves of a head.
template <int kWidth>
struct Columns {
  float low[kWidth];
  float high[kWidth];
};

// kWidth > 1: `lanes` lanes hold a head with kWidth columns of each half. kWidth == 1: a warp holds
// a head, lane l columns l, l + 32, ... of each half; any even head_dim.
template <class In, class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    qk_norm_rope_store_kernel(const __grid_constant__ QkNormRopeStoreParams params,
                              int lanes_log2) {
  pdl_launch_dependents();
  constexpr int kColumns = kWidth == 1 ? kMaxHalf / 32 : 1;
  const int half = params.head_dim / 2;
  const int heads = params.q_heads + 2 * params.kv_heads;
  const int lanes = 1 << lanes_log2;
  const uint32_t index = (blockIdx.x * kThreads + threadIdx.x) >> lanes_log2;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const bool exists = index < params.rows * heads;
  const int64_t row = exists ? index / static_cast<uint32_t>(heads) : 0;
  const int head = exists ? static_cast<int>(index % static_cast<uint32_t>(heads)) : 0;
  const bool is_query = head < params.q_heads;
  const bool is_value = head >= params.q_heads + params.kv_heads;
  const auto column = [&](int c) { return (c * 32 + lane) * kWidth; };
  const auto holds = [&](int c) { return exists && column(c) < half; };

  // What does not depend on the kernel before.
  const float* norm = is_value ? nullptr : is_query ? params.q_norm : params.k_norm;
  const int slot = is_query || !exists ? -1 : params.slots[row];
  Columns<kWidth> angle[kColumns], weight[kColumns];
  const float* cos_sin =
      params.cos_sin + (is_value ? 0 : int64_t{params.positions[row]} * params.head_dim);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if (!holds(c) || is_value) continue;
    read(angle[c].low, cos_sin + column(c));
    read(angle[c].high, cos_sin + half + column(c));
    if (norm == nullptr) continue;
    read(weight[c].low, norm + column(c));
    read(weight[c].high, norm + half + column(c));
  }
  pdl_wait();

  Columns<kWidth> x[kColumns];
  float squares = 0.0f;
  const int64_t part = params.rows * heads * params.head_dim;
  const In* source = static_cast<const In*>(params.qkv) + int64_t{index} * params.head_dim;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[c].low[i] = x[c].high[i] = 0.0f;
    if (!holds(c)) continue;
    read(x[c].low, source + column(c));
    read(x[c].high, source + half + column(c));
#pragma unroll 4
    for (int p = 1; p < params.parts; ++p) {
      Columns<kWidth> more;
      read(more.low, source + p * part + column(c));
      read(more.high, source + p * part + half + column(c));
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[c].low[i] += more.low[i], x[c].high[i] += more.high[i];
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      squares += x[c].low[i] * x[c].low[i] + x[c].high[i] * x[c].high[i];
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    squares += __shfl_xor_sync(0xffffffff, squares, offset);
  const float scale = norm == nullptr
                          ? 1.0f
                          : __frsqrt_rn(squares / static_cast<float>(params.head_dim) + params.eps);

  T* to = static_cast<T*>(params.q) + (row * params.q_heads + head) * params.head_dim;
  if (!is_query) {
    if (slot < 0) return;
    const int kv_head = head - params.q_heads - (is_value ? params.kv_heads : 0);
    const int64_t matrix =
        (int64_t{slot / kCacheBlockTokens} * 2 + (is_value ? 1 : 0)) * params.kv_heads + kv_head;
    to = static_cast<T*>(params.cache) + matrix * kCacheBlockTokens * params.head_dim;
  }
  const auto offset = [&](int d) {
    return is_query ? d : cache_offset(slot % kCacheBlockTokens, d, params.head_dim);
  };
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if (!holds(c)) continue;
    Columns<kWidth> y = x[c];
    if (!is_value) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float low = norm == nullptr ? x[c].low[i] : x[c].low[i] * scale * weight[c].low[i];
        const float high =
            norm == nullptr ? x[c].high[i] : x[c].high[i] * scale * weight[c].high[i];
        y.low[i] = low * angle[c].low[i] - high * angle[c].high[i];
        y.high[i] = high * angle[c].low[i] + low * angle[c].high[i];
      }
    }
    write(to + offset(column(c)), y.low);
    write(to + offset(half + column(c)), y.high);
  }
}

template <class In, class T, int kWidth>
void launch_width(const QkNormRopeStoreParams& params, const CudaExec& exec) {
  int lanes_log2 = 5;
  if (kWidth > 1) {
    while (lanes_log2 > 0 && (kWidth << (lanes_log2 - 1)) >= params.head_dim / 2) --lanes_log2;
  }
  const int64_t threads = params.rows * (params.q_heads + 2 * params.kv_heads) << lanes_log2;
  launch(qk_norm_rope_store_kernel<In, T, kWidth>,
         dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), dim3(kThreads), 0, exec,
         params, lanes_log2);
}

template <class T>
void launch_type(const QkNormRopeStoreParams& params, const CudaExec& exec) {
  const int half = params.head_dim / 2;
  if (params.is_f32) {
    if (half % 4 == 0) return launch_width<float, T, 4>(params, exec);
    return launch_width<float, T, 1>(params, exec);
  }
  if (half % 8 == 0) return launch_width<T, T, 8>(params, exec);
  launch_width<T, T, 1>(params, exec);
}

}  // namespace

void qk_norm_rope_store(const QkNormRopeStoreParams& params, const CudaExec& exec) {
  if (params.is_f16) return launch_type<__half>(params, exec);
  launch_type<__nv_bfloat16>(params, exec);
}

}  // namespace donar::ops::cuda
