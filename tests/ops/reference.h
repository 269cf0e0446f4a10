// Every operation in naive loops with double sums: what the kernels are compared with, and what
// bench_ops verifies against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kv/kv_store.h"
#include "ops/linear.h"
#include "ops/paged_attention.h"
#include "quant/format.h"
#include "tensor/dtype.h"

namespace donar::reference {

// Seeded values of a bell curve: what activations and weights look like.
inline std::vector<float> random_floats(int64_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

// A matrix in file layout: the packed bytes of random rows.
struct StoredMatrix {
  quant::Format format;
  int64_t n, k;
  std::vector<std::byte> bytes;

  const std::byte* row(int64_t i) const { return bytes.data() + i * quant::row_bytes(format, k); }
  std::vector<float> row_values(int64_t i) const {
    std::vector<float> values(static_cast<size_t>(k));
    quant::unpack_row(format, row(i), k, values.data());
    return values;
  }
};

inline StoredMatrix random_matrix(quant::Format format, int64_t n, int64_t k, uint32_t seed) {
  StoredMatrix matrix{format, n, k,
                      std::vector<std::byte>(static_cast<size_t>(n * quant::row_bytes(format, k)))};
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<float> values =
        random_floats(k, seed + static_cast<uint32_t>(i) * 7919u, 0.3f);
    quant::pack_row(format, values.data(), k,
                    matrix.bytes.data() + i * quant::row_bytes(format, k));
  }
  return matrix;
}

// What linear makes of an input row before it multiplies.
inline std::vector<double> rounded_input(const float* x, int64_t k, quant::Format format) {
  std::vector<double> rounded(x, x + k);
  if (format == quant::Format::kF32 || format == quant::Format::kF16) return rounded;
  if (format == quant::Format::kBF16) {
    for (double& value : rounded) value = static_cast<float>(bf16(static_cast<float>(value)));
    return rounded;
  }
  for (int64_t b = 0; b < k; b += 32) {
    const int64_t end = std::min(b + 32, k);
    float largest = 0;
    for (int64_t i = b; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    for (int64_t i = b; i < end; ++i)
      rounded[static_cast<size_t>(i)] = double{std::nearbyint(x[i] * inverse)} * (largest / 127.0f);
  }
  return rounded;
}

struct Sum {
  double value = 0;
  double magnitude = 0;  // sum of absolute products: what a float's rounding is measured by
};

inline Sum dot(const std::vector<double>& x, const std::vector<float>& w) {
  Sum sum;
  for (size_t i = 0; i < w.size(); ++i) {
    sum.value += x[i] * double{w[i]};
    sum.magnitude += std::fabs(x[i] * double{w[i]});
  }
  return sum;
}

inline void add_rms_norm(float* x, const float* delta, const float* weight, float eps, int64_t dim,
                         double* y) {
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) {
    if (delta != nullptr) x[i] += delta[i];
    squares += double{x[i]} * double{x[i]};
  }
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(dim) + double{eps});
  for (int64_t i = 0; i < dim; ++i) y[i] = x[i] * scale * weight[i];
}

inline double silu_mul(double gate, double up) { return gate / (1.0 + std::exp(-gate)) * up; }

// One head, normalised if weight is given, then rotated: pairs (i, i + half).
inline std::vector<double> norm_rope(const float* x, const float* weight, float eps,
                                     const float* cos_sin, int head_dim) {
  std::vector<double> v(x, x + head_dim);
  if (weight != nullptr) {
    double squares = 0;
    for (double value : v) squares += value * value;
    const double scale = 1.0 / std::sqrt(squares / head_dim + double{eps});
    for (int i = 0; i < head_dim; ++i) v[static_cast<size_t>(i)] *= scale * weight[i];
  }
  const int half = head_dim / 2;
  std::vector<double> y(v.size());
  for (int i = 0; i < half; ++i) {
    const auto a = static_cast<size_t>(i);
    const auto b = static_cast<size_t>(i + half);
    y[a] = v[a] * cos_sin[i] - v[b] * cos_sin[half + i];
    y[b] = v[b] * cos_sin[i] + v[a] * cos_sin[half + i];
  }
  return y;
}

// One element of the cache as a float.
inline float cache_value(const kv::KvLayer& cache, int64_t index) {
  switch (cache.dtype) {
    case DType::kF16:
      return static_cast<float>(static_cast<const f16*>(cache.data)[index]);
    case DType::kBF16:
      return static_cast<float>(static_cast<const bf16*>(cache.data)[index]);
    default:
      return static_cast<const float*>(cache.data)[index];
  }
}

// One query head at one position. The CPU rounds q to bf16 where the cache is, and the weights of
// the sum: by up to 2^-9 each, which moves the result by what `spread` is for: the root of the sum
// of (weight * (value - result))^2.
inline std::vector<double> attend(const float* q, int position, const int32_t* block_table,
                                  const kv::KvLayer& cache, int kv_head,
                                  const ops::AttentionParams& params, int q_head,
                                  std::vector<double>* spread = nullptr) {
  const int first = params.window > 0 ? std::max(position - params.window + 1, 0) : 0;
  std::vector<double> scores;
  double max = params.sinks != nullptr ? double{params.sinks[q_head]} : -INFINITY;
  for (int key = first; key <= position; ++key) {
    const int64_t at =
        cache.index(block_table[key / kv::kBlockTokens], false, kv_head, key % kv::kBlockTokens);
    double score = 0;
    for (int d = 0; d < cache.head_dim; ++d)
      score += double{cache.dtype == DType::kBF16 ? static_cast<float>(bf16(q[d])) : q[d]} *
               double{cache_value(cache, at + d)};
    scores.push_back(score * double{params.scale});
    max = std::max(max, scores.back());
  }
  double sum = params.sinks != nullptr ? std::exp(double{params.sinks[q_head]} - max) : 0.0;
  std::vector<double> out(static_cast<size_t>(cache.head_dim), 0.0);
  for (int key = first; key <= position; ++key) {
    const double weight = std::exp(scores[static_cast<size_t>(key - first)] - max);
    sum += weight;
    const int64_t at =
        cache.index(block_table[key / kv::kBlockTokens], true, kv_head, key % kv::kBlockTokens);
    for (int d = 0; d < cache.head_dim; ++d)
      out[static_cast<size_t>(d)] += weight * double{cache_value(cache, at + d)};
  }
  for (double& value : out) value /= sum;
  if (spread == nullptr) return out;
  spread->assign(out.size(), 0.0);
  for (int key = first; key <= position; ++key) {
    const double weight = std::exp(scores[static_cast<size_t>(key - first)] - max) / sum;
    const int64_t at =
        cache.index(block_table[key / kv::kBlockTokens], true, kv_head, key % kv::kBlockTokens);
    for (int d = 0; d < cache.head_dim; ++d) {
      const double away =
          weight * (double{cache_value(cache, at + d)} - out[static_cast<size_t>(d)]);
      (*spread)[static_cast<size_t>(d)] += away * away;
    }
  }
  for (double& value : *spread) value = std::sqrt(value);
  return out;
}

// How far attention on the CPU may be off: f32 sums, and six deviations of rounding the weights.
inline double attention_tolerance(const kv::KvLayer& cache, double value, double spread) {
  const double rounding = cache.dtype == DType::kBF16 ? 1.0 / 512 / std::sqrt(3.0) : 0.0;
  return 1e-5 + 1e-5 * std::fabs(value) + 6 * rounding * spread;
}

}  // namespace donar::reference
