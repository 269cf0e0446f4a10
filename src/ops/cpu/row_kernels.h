// Row-wise kernels over a Vec: norm, gated activation, rotary embedding, rounding to the cache's
// dtype.
#pragma once

#include <cmath>
#include <cstring>

#include "ops/cpu/common/vec_math.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// op(offset, lanes) over [0, n): whole vectors, then one partial.
template <class V, class Whole, class Part>
inline void for_vectors(int64_t n, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) whole(i);
  if (i < n) part(i, static_cast<int>(n - i));
}

template <class V>
float inverse_rms(const float* x, int64_t n, float eps) {
  typename V::F squares = V::zero();
  for_vectors<V>(
      n, [&](int64_t i) { squares = V::fma(V::load(x + i), V::load(x + i), squares); },
      [&](int64_t i, int m) {
        squares = V::fma(V::load_n(x + i, m), V::load_n(x + i, m), squares);
      });
  return 1.0f / sqrtf(V::reduce_add(squares) / static_cast<float>(n) + eps);
}

template <class V>
void add_rms_norm(float* x, const float* delta, const float* weight, float eps, int64_t dim,
                  float* y) {
  if (delta != nullptr) {
    for_vectors<V>(
        dim, [&](int64_t i) { V::store(x + i, V::add(V::load(x + i), V::load(delta + i))); },
        [&](int64_t i, int m) {
          V::store_n(x + i, V::add(V::load_n(x + i, m), V::load_n(delta + i, m)), m);
        });
  }
  const typename V::F scale = V::set1(inverse_rms<V>(x, dim, eps));
  for_vectors<V>(
      dim,
      [&](int64_t i) {
        V::store(y + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i)));
      },
      [&](int64_t i, int m) {
        V::store_n(y + i, V::mul(V::mul(V::load_n(x + i, m), scale), V::load_n(weight + i, m)), m);
      });
}

template <class V>
typename V::F silu(typename V::F z) {
  const typename V::F one = V::set1(1.0f);
  return V::div(z, V::add(one, exp<V>(V::sub(V::zero(), z))));
}

template <class V>
void silu_mul(const float* gate, const float* up, int64_t dim, float* y) {
  for_vectors<V>(
      dim, [&](int64_t i) { V::store(y + i, V::mul(silu<V>(V::load(gate + i)), V::load(up + i))); },
      [&](int64_t i, int m) {
        V::store_n(y + i, V::mul(silu<V>(V::load_n(gate + i, m)), V::load_n(up + i, m)), m);
      });
}

template <class V>
void norm_rope(const float* x, const float* norm_weight, float eps, const float* cos_sin,
               int head_dim, float* y) {
  using F = typename V::F;
  const int half = head_dim / 2;
  const F scale = V::set1(norm_weight ? inverse_rms<V>(x, head_dim, eps) : 1.0f);
  const auto rotate = [&](int i, int m) {
    F a = V::load_n(x + i, m);
    F b = V::load_n(x + half + i, m);
    if (norm_weight != nullptr) {
      a = V::mul(V::mul(a, scale), V::load_n(norm_weight + i, m));
      b = V::mul(V::mul(b, scale), V::load_n(norm_weight + half + i, m));
    }
    const F c = V::load_n(cos_sin + i, m);
    const F s = V::load_n(cos_sin + half + i, m);
    V::store_n(y + i, V::sub(V::mul(a, c), V::mul(b, s)), m);
    V::store_n(y + half + i, V::fma(b, c, V::mul(a, s)), m);
  };
  for (int i = 0; i < half; i += V::kLanes) rotate(i, half - i < V::kLanes ? half - i : V::kLanes);
}

template <class V>
void store_kv(const float* x, int64_t n, DType dtype, void* out) {
  auto* to = static_cast<std::byte*>(out);
  const int size = static_cast<int>(dtype == DType::kF32 ? 4 : 2);
  const auto put = [&](int64_t i, int m) {
    const typename V::F v = V::load_n(x + i, m);
    std::byte* at = to + i * size;
    if (dtype == DType::kBF16) {
      V::store_bf16_n(at, v, m);
    } else if (dtype == DType::kF16) {
      V::store_f16_n(at, v, m);
    } else {
      V::store_n(reinterpret_cast<float*>(at), v, m);
    }
  };
  for_vectors<V>(
      n, [&](int64_t i) { put(i, V::kLanes); }, put);
}

}  // namespace donar::ops::cpu
