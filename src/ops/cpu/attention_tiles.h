// The inner loops of paged attention over a Vec: keys of a few blocks transposed, scores of R rows,
// softmax of a row, weighted sums of values. Every sum runs in chunks of 32 terms: the even terms
// one after the other, the odd ones likewise, then even + odd, then onto the chunks before. That is
// the order in which AMX multiplies pairs of bf16, so that it gives the same bits.
#pragma once

#include <cmath>
#include <cstring>

#include "ops/cpu/attention_item.h"

namespace donar::ops::cpu {

constexpr int kAttentionChunk = 32;  // terms of a sum before it is added to the others
constexpr float kLog2E = 1.44269504088896341f;
constexpr int kChunkBlocks = kAttentionChunk / kv::kBlockTokens;
// A line more than a power of two, so that rows do not share cache sets.
constexpr int kScoreStride = kAttentionSplit + 16;

// Head vectors are padded to 16 floats in scratch, so that every Vec divides them.
constexpr int padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }

// The element types of the cache.
template <class V, DType kType>
struct CacheType {
  static constexpr int kBytes = kType == DType::kF32 ? 4 : 2;
  // Queries and weights are rounded to bf16 where keys and values are.
  static constexpr bool kRounds = kType == DType::kBF16;
  static typename V::F load(const std::byte* p) {
    if constexpr (kType == DType::kBF16) return V::load_bf16(p);
    if constexpr (kType == DType::kF16) return V::load_f16(p);
    if constexpr (kType == DType::kF32) return V::load(reinterpret_cast<const float*>(p));
  }
  // Up to a vector of elements: the tail of a head that no Vec divides.
  static typename V::F load_n(const std::byte* p, int n) {
    alignas(64) std::byte padded[V::kLanes * 4] = {};
    std::memcpy(padded, p, static_cast<size_t>(n * kBytes));
    return load(padded);
  }
};

// A block's 16 keys, transposed into columns of `keys` ([head_dim][kKeys]); asks for those of
// `later`. Slots behind the last key are read too, whatever they hold: their scores are masked.
template <class V, DType kType, int kKeys>
void load_keys(const std::byte* block, int head_dim, float* keys, const std::byte* later) {
  using Cache = CacheType<V, kType>;
  constexpr int kLanes = V::kLanes;
  const int64_t stride = int64_t{head_dim} * Cache::kBytes;
  for (int first = 0; first < kv::kBlockTokens; first += kLanes) {
    const std::byte* row = block + first * stride;
    float* out = keys + first;
    int d = 0;
    if constexpr (kType != DType::kF32) {
      // Two values of 16 bits travel as one lane: half the shuffles.
      for (; d + 2 * kLanes <= head_dim; d += 2 * kLanes) {
        typename V::F pairs[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          pairs[i] = V::load(reinterpret_cast<const float*>(row + i * stride + d * 2));
          if (d * 2 % 64 == 0) prefetch<V>(later + (first + i) * stride + d * 2);
        }
        V::transpose(pairs);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          const typename V::B word = V::as_bytes(pairs[i]);
          float* at = out + (d + 2 * i) * kKeys;
          V::store(at, kType == DType::kBF16 ? V::first_bf16(word) : V::first_f16(word));
          V::store(at + kKeys, kType == DType::kBF16 ? V::second_bf16(word) : V::second_f16(word));
        }
      }
    }
    for (; d < head_dim; d += kLanes) {
      const int dims = head_dim - d < kLanes ? head_dim - d : kLanes;
      typename V::F rows[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const std::byte* at = row + i * stride + d * Cache::kBytes;
        rows[i] = dims == kLanes ? Cache::load(at) : Cache::load_n(at, dims);
      }
      V::transpose(rows);
      for (int i = 0; i < dims; ++i) V::store(out + (d + i) * kKeys, rows[i]);
    }
  }
}

// A block's first `count` values as floats, rows of padded_head.
template <class V, DType kType>
void load_values(const std::byte* block, int count, int head_dim, float* values) {
  using Cache = CacheType<V, kType>;
  const int head = padded_head(head_dim);
  for (int key = 0; key < count; ++key) {
    const std::byte* row = block + key * int64_t{head_dim} * Cache::kBytes;
    for (int d = 0; d < head; d += V::kLanes) {
      const int dims = head_dim - d < V::kLanes ? head_dim - d : V::kLanes;
      typename V::F v = V::zero();
      if (dims > 0)
        v = dims == V::kLanes ? Cache::load(row + d * Cache::kBytes)
                              : Cache::load_n(row + d * Cache::kBytes, dims);
      V::store(values + key * head + d, v);
    }
  }
}

// Scores of R rows (q: rows of padded_head) against kKeys transposed keys.
template <class V, int R, int kKeys>
void score_rows(const float* q, int head_dim, const float* keys, float* scores) {
  constexpr int kMost = kKeys / V::kLanes;
  constexpr int kVectors = V::kKeyVectors < kMost ? V::kKeyVectors : kMost;
  const int head = padded_head(head_dim);
  for (int first = 0; first < kKeys; first += kVectors * V::kLanes) {
    for (int chunk = 0; chunk < head_dim; chunk += kAttentionChunk) {
      const int end = chunk + kAttentionChunk < head_dim ? chunk + kAttentionChunk : head_dim;
      const auto sum_terms = [&](int d, typename V::F(&sum)[R][kVectors]) {
        for (int r = 0; r < R; ++r) {
          for (int v = 0; v < kVectors; ++v) sum[r][v] = V::zero();
        }
        for (const float* at = keys + d * kKeys + first; d < end; d += 2, at += 2 * kKeys) {
          typename V::F key[kVectors];
          for (int v = 0; v < kVectors; ++v) key[v] = V::load(at + v * V::kLanes);
          for (int r = 0; r < R; ++r) {
            const typename V::F query = V::set1(q[r * head + d]);
            for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(key[v], query, sum[r][v]);
          }
        }
      };
      typename V::F even[R][kVectors], odd[R][kVectors];
      sum_terms(chunk, even);
      sum_terms(chunk + 1, odd);
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVectors; ++v) {
          float* score = scores + r * kScoreStride + first + v * V::kLanes;
          const typename V::F both = V::add(even[r][v], odd[r][v]);
          V::store(score, chunk == 0 ? both : V::add(V::load(score), both));
        }
      }
    }
  }
}

// part[r] += weights[r] . the first `count` (up to 32) values of a chunk, which lie as kType at
// `blocks`, rows of `width` elements; asks for the blocks `later` where given.
template <class V, int R, DType kType, bool kAsks>
void add_values(const float* weights, const std::byte* const (&blocks)[kChunkBlocks], int count,
                int width, float* part, const std::byte* const (&later)[kChunkBlocks]) {
  constexpr int kBytes = CacheType<V, kType>::kBytes;
  const auto columns = [&]<int kWide>(int d) {
    const auto sum_terms = [&](int odd, typename V::F(&sum)[R][kWide]) {
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kWide; ++v) sum[r][v] = V::zero();
      }
      for (int b = 0; b < kChunkBlocks; ++b) {
        const int first = b * kv::kBlockTokens;
        const int keys = count - first < kv::kBlockTokens ? count - first : kv::kBlockTokens;
        const std::byte* at = blocks[b] + (int64_t{odd} * width + d) * kBytes;
        const float* weight = weights + first;
        for (int key = odd; key < keys; key += 2, at += 2 * int64_t{width} * kBytes) {
          typename V::F value[kWide];
          for (int v = 0; v < kWide; ++v)
            value[v] = CacheType<V, kType>::load(at + v * V::kLanes * kBytes);
          if constexpr (kAsks) {
            for (int line = 0; line < kWide * V::kLanes * kBytes; line += 64)
              prefetch<V>(later[b] + (at - blocks[b]) + line);
          }
          for (int r = 0; r < R; ++r) {
            const typename V::F w = V::set1(weight[r * kScoreStride + key]);
            for (int v = 0; v < kWide; ++v) sum[r][v] = V::fma(value[v], w, sum[r][v]);
          }
        }
      }
    };
    typename V::F even[R][kWide], odd[R][kWide];
    sum_terms(0, even);
    sum_terms(1, odd);
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kWide; ++v) {
        float* into = part + r * width + d + v * V::kLanes;
        V::store(into, V::add(V::load(into), V::add(even[r][v], odd[r][v])));
      }
    }
  };
  int d = 0;
  for (; d + V::kKeyVectors * V::kLanes <= width; d += V::kKeyVectors * V::kLanes)
    columns.template operator()<V::kKeyVectors>(d);
  for (; d < width; d += V::kLanes) columns.template operator()<1>(d);
}

// 2^x for x <= 0, relative error below 3e-7; 0 below -126.
template <class V>
typename V::F exp2_negative(typename V::F x) {
  using F = typename V::F;
  const F lowest = V::set1(-126.0f);
  const F clamped = V::max(x, lowest);
  const F n = V::round(clamped);
  const F r = V::sub(clamped, n);
  F p = V::set1(1.54035304e-4f);
  p = V::fma(p, r, V::set1(1.33335581e-3f));
  p = V::fma(p, r, V::set1(9.61812911e-3f));
  p = V::fma(p, r, V::set1(5.55041087e-2f));
  p = V::fma(p, r, V::set1(2.40226507e-1f));
  p = V::fma(p, r, V::set1(6.93147181e-1f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::zero_below(x, lowest, V::scale2(p, n));
}

// The nearest value of 8 significant bits, which bf16 has too: Veltkamp's splitting.
template <class V>
typename V::F round_weight(typename V::F x) {
  const typename V::F big = V::mul(x, V::set1(65537.0f));
  return V::sub(big, V::sub(big, x));
}

// Scores -> weights 2^(scale * score - max) of one row, in place: the row sees [begin, end), its
// weights in [lowest, highest) (multiples of the chunk) are read later. scale holds log2 e.
template <class V, bool kRounds>
void softmax_row(float* scores, int begin, int end, int lowest, int highest, float scale,
                 float& max, float& sum) {
  using F = typename V::F;
  constexpr int kLanes = V::kLanes;
  constexpr int kSums = 4;
  if (begin >= end) begin = end = lowest;
  const int first = begin / kLanes * kLanes;
  const int last = (end + kLanes - 1) / kLanes * kLanes;
  for (int i = lowest; i < first; i += kLanes) V::store(scores + i, V::zero());
  for (int i = last; i < highest; i += kLanes) V::store(scores + i, V::zero());
  if (begin == end) return;
  for (int i = first; i < begin; ++i) scores[i] = -INFINITY;
  for (int i = end; i < last; ++i) scores[i] = -INFINITY;

  F largest[kSums];
  for (F& m : largest) m = V::load(scores + first);
  int i = first;
  for (; i + kSums * kLanes <= last; i += kSums * kLanes) {
    for (int j = 0; j < kSums; ++j)
      largest[j] = V::max(largest[j], V::load(scores + i + j * kLanes));
  }
  for (; i < last; i += kLanes) largest[0] = V::max(largest[0], V::load(scores + i));
  max =
      scale * V::reduce_max(V::max(V::max(largest[0], largest[1]), V::max(largest[2], largest[3])));

  const F factor = V::set1(scale);
  const F offset = V::set1(-max);
  F total = V::zero();
  for (i = first; i < last; i += kLanes) {
    F weight = exp2_negative<V>(V::fma(V::load(scores + i), factor, offset));
    if constexpr (kRounds) weight = round_weight<V>(weight);
    V::store(scores + i, weight);
    total = V::add(total, weight);
  }
  sum = V::reduce_add(total);
}

}  // namespace donar::ops::cpu
