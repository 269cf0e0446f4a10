// Paged attention over a Vec, one item: up to 64 query rows that share one kv head. Keys come in
// tiles of 64 at absolute positions, expanded to float once per tile and shared by all rows; online
// softmax inside a split of 512 keys, splits merged in order. Whatever a row's neighbours are, its
// own sums run over the same keys in the same order.
#pragma once

#include <cmath>
#include <cstring>

#include "kv/kv_store.h"
#include "ops/cpu/common/vec_math.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// Head vectors are padded to 16 floats in scratch, so that every Vec divides them.
constexpr int padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }

// The item's scratch, carved out of AttentionItem::scratch. Everything here is a template over V,
// also what does not need it: an inline function shared by the files of several instruction sets
// would be linked from any one of them.
template <class V>
struct AttentionScratch {
  float* keys;          // [head_dim][64]: transposed, lanes are keys
  float* values;        // [64][padded head]
  float* weights;       // [rows][64]: scores, then exponentials
  AttentionPart part;   // of this split
  AttentionPart total;  // of the splits before

  AttentionScratch(std::byte* memory, int head_dim) {
    auto* at = reinterpret_cast<float*>(memory);
    const int head = padded_head(head_dim);
    const auto take = [&](int floats) {
      float* taken = at;
      at += floats;
      return taken;
    };
    keys = take(head * kAttentionTile);
    values = take(head * kAttentionTile);
    weights = take(kAttentionRows * kAttentionTile);
    part = {take(kAttentionRows * head), take(kAttentionRows), take(kAttentionRows)};
    total = {take(kAttentionRows * head), take(kAttentionRows), take(kAttentionRows)};
  }
};

// The element types of the cache.
template <class V, DType kType>
struct CacheType {
  static constexpr int kBytes = kType == DType::kF32 ? 4 : 2;
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

// Where the keys (or values) of the tile's four blocks begin; null for blocks that hold nothing
// visible.
struct TileBlocks {
  const std::byte* at[kAttentionTile / kv::kBlockTokens];
};

template <class V, DType kType>
TileBlocks tile_blocks(const AttentionItem& item, int base, int count, int64_t offset) {
  TileBlocks blocks;
  for (int b = 0; b < kAttentionTile / kv::kBlockTokens; ++b) {
    blocks.at[b] = nullptr;
    if (b * kv::kBlockTokens >= count) continue;
    const int64_t block = item.block_table[base / kv::kBlockTokens + b];
    blocks.at[b] = static_cast<const std::byte*>(item.cache) +
                   (block * item.block_elements + offset) * CacheType<V, kType>::kBytes;
  }
  return blocks;
}

// The tile's keys, transposed. Slots behind the last key of a block are read too, whatever they
// hold: their scores are masked.
template <class V, DType kType>
void load_keys(const TileBlocks& blocks, int head_dim, float* keys) {
  using Cache = CacheType<V, kType>;
  constexpr int kLanes = V::kLanes;
  const int64_t stride = int64_t{head_dim} * Cache::kBytes;
  for (int first = 0; first < kAttentionTile; first += kLanes) {
    const std::byte* block = blocks.at[first / kv::kBlockTokens];
    if (block == nullptr) break;
    const std::byte* row = block + first % kv::kBlockTokens * stride;
    float* out = keys + first;
    int d = 0;
    if constexpr (kType != DType::kF32) {
      // Two values of 16 bits travel as one lane: half the shuffles.
      for (; d + 2 * kLanes <= head_dim; d += 2 * kLanes) {
        typename V::F pairs[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          pairs[i] = V::load(reinterpret_cast<const float*>(row + i * stride + d * 2));
        V::transpose(pairs);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          const typename V::B word = V::as_bytes(pairs[i]);
          float* at = out + (d + 2 * i) * kAttentionTile;
          V::store(at, kType == DType::kBF16 ? V::first_bf16(word) : V::first_f16(word));
          V::store(at + kAttentionTile,
                   kType == DType::kBF16 ? V::second_bf16(word) : V::second_f16(word));
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
      for (int i = 0; i < dims; ++i) V::store(out + (d + i) * kAttentionTile, rows[i]);
    }
  }
}

// The first `count` values of the tile as floats.
template <class V, DType kType>
void load_values(const TileBlocks& blocks, int count, int head_dim, float* values) {
  using Cache = CacheType<V, kType>;
  const int head = padded_head(head_dim);
  for (int key = 0; key < count; ++key) {
    const std::byte* row = blocks.at[key / kv::kBlockTokens] +
                           key % kv::kBlockTokens * int64_t{head_dim} * Cache::kBytes;
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

// Scores of R rows against the tile.
template <class V, int R>
void score_rows(const float* const (&q)[R], int head_dim, const float* keys, float* scores) {
  constexpr int kVectors = V::kKeyVectors;
  for (int first = 0; first < kAttentionTile; first += kVectors * V::kLanes) {
    typename V::F sum[R][kVectors];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::zero();
    }
    const float* at = keys + first;
    for (int d = 0; d < head_dim; ++d, at += kAttentionTile) {
      typename V::F key[kVectors];
      for (int v = 0; v < kVectors; ++v) key[v] = V::load(at + v * V::kLanes);
      for (int r = 0; r < R; ++r) {
        const typename V::F query = V::set1(q[r][d]);
        for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(key[v], query, sum[r][v]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVectors; ++v)
        V::store(scores + r * kAttentionTile + first + v * V::kLanes, sum[r][v]);
    }
  }
}

// part[r] = part[r] * decay[r] + weights[r] . the first `count` values; those lie as kType in
// blocks, `width` elements apart.
template <class V, int R, DType kType>
void add_values(const float* weights, const float (&decay)[R], const TileBlocks& blocks, int count,
                int width, float* part) {
  constexpr int kVectors = V::kKeyVectors;
  constexpr int kBytes = CacheType<V, kType>::kBytes;
  const auto columns = [&]<int kWide>(int d) {
    typename V::F sum[R][kWide];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kWide; ++v) {
        sum[r][v] = V::mul(V::load(part + r * width + d + v * V::kLanes), V::set1(decay[r]));
      }
    }
    for (int first = 0; first < count; first += kv::kBlockTokens) {
      const std::byte* at = blocks.at[first / kv::kBlockTokens] + d * kBytes;
      const int keys = count - first < kv::kBlockTokens ? count - first : kv::kBlockTokens;
      const float* weight = weights + first;
      for (int key = 0; key < keys; ++key, at += int64_t{width} * kBytes, ++weight) {
        typename V::F value[kWide];
        for (int v = 0; v < kWide; ++v)
          value[v] = CacheType<V, kType>::load(at + v * V::kLanes * kBytes);
        for (int r = 0; r < R; ++r) {
          const typename V::F w = V::set1(weight[r * kAttentionTile]);
          for (int v = 0; v < kWide; ++v) sum[r][v] = V::fma(value[v], w, sum[r][v]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kWide; ++v) V::store(part + r * width + d + v * V::kLanes, sum[r][v]);
    }
  };
  int d = 0;
  for (; d + kVectors * V::kLanes <= width; d += kVectors * V::kLanes)
    columns.template operator()<kVectors>(d);
  for (; d < width; d += V::kLanes) columns.template operator()<1>(d);
}

// Scores -> exponentials of one row, in place; its running maximum and sum; returns what older
// values decay by. visible keys of the tile: [begin, end).
template <class V>
float softmax_row(float* scores, int begin, int end, float scale, float& max, float& sum) {
  using F = typename V::F;
  if (begin >= end) {
    for (int i = 0; i < kAttentionTile; i += V::kLanes) V::store(scores + i, V::zero());
    return 1.0f;
  }
  const F lowest = V::set1(-INFINITY);
  F largest = lowest;
  for (int i = 0; i < kAttentionTile; i += V::kLanes) {
    const F s = V::keep_range(V::mul(V::load(scores + i), V::set1(scale)), i, begin, end, lowest);
    V::store(scores + i, s);
    largest = V::max(largest, s);
  }
  const float tile_max = V::reduce_max(largest);
  const float new_max = tile_max > max ? tile_max : max;
  F total = V::zero();
  for (int i = 0; i < kAttentionTile; i += V::kLanes) {
    const F e = exp<V>(V::sub(V::load(scores + i), V::set1(new_max)));
    V::store(scores + i, e);
    total = V::add(total, e);
  }
  float decay[V::kLanes];
  V::store(decay, exp<V>(V::set1(max - new_max)));
  sum = sum * decay[0] + V::reduce_add(total);
  max = new_max;
  return decay[0];
}

// Rows [row, row + R) against the tile whose keys are in scratch.
template <class V, int R, DType kType>
void attend_rows(const AttentionItem& item, const AttentionScratch<V>& s, const AttentionPart& part,
                 int row, int base, const TileBlocks& values, int count) {
  const float* q[R];
  int begin[R];
  int end[R];
  bool any = false;
  for (int r = 0; r < R; ++r) {
    const int query = (row + r) / item.heads;
    const int head = (row + r) % item.heads;
    q[r] = item.q + query * item.q_stride + head * item.head_dim;
    const int position = item.positions[query];
    const int first =
        item.window > 0 && position - item.window + 1 > 0 ? position - item.window + 1 : 0;
    begin[r] = first > base ? first - base : 0;
    end[r] = position - base + 1 < kAttentionTile ? position - base + 1 : kAttentionTile;
    any = any || begin[r] < end[r];
  }
  if (!any) return;
  const int width = padded_head(item.head_dim);
  float* scores = s.weights + row * kAttentionTile;
  score_rows<V, R>(q, item.head_dim, s.keys, scores);
  float decay[R];
  for (int r = 0; r < R; ++r) {
    decay[r] = softmax_row<V>(scores + r * kAttentionTile, begin[r], end[r], item.scale,
                              part.max[row + r], part.sum[row + r]);
  }
  add_values<V, R, kType>(scores, decay, values, count, width, part.values + row * width);
}

// All rows of the item; kType is what `values` points to.
template <class V, DType kType>
void attend_tile(const AttentionItem& item, const AttentionScratch<V>& s, const AttentionPart& part,
                 int rows, int base, const TileBlocks& values, int count) {
  int row = 0;
  for (; row + 4 <= rows; row += 4)
    attend_rows<V, 4, kType>(item, s, part, row, base, values, count);
  switch (rows - row) {
    case 3:
      attend_rows<V, 3, kType>(item, s, part, row, base, values, count);
      break;
    case 2:
      attend_rows<V, 2, kType>(item, s, part, row, base, values, count);
      break;
    case 1:
      attend_rows<V, 1, kType>(item, s, part, row, base, values, count);
      break;
    default:
      break;
  }
}

// What the item's rows see together: keys [first, last].
struct KeyRange {
  int first, last;
};

template <class V>
KeyRange visible_keys(const AttentionItem& item) {
  int lowest = item.positions[0];
  int last = lowest;
  for (int i = 1; i < item.queries; ++i) {
    lowest = item.positions[i] < lowest ? item.positions[i] : lowest;
    last = item.positions[i] > last ? item.positions[i] : last;
  }
  return {item.window > 0 && lowest - item.window + 1 > 0 ? lowest - item.window + 1 : 0, last};
}

template <class V, DType kType>
void attend_split(const AttentionItem& item, int split, const AttentionPart& part) {
  const AttentionScratch<V> s(item.scratch, item.head_dim);
  const int rows = item.queries * item.heads;
  const int width = padded_head(item.head_dim);
  const KeyRange range = visible_keys<V>(item);
  for (int t = 0; t < kAttentionSplit / kAttentionTile; ++t) {
    const int base = split * kAttentionSplit + t * kAttentionTile;
    if (base > range.last) break;
    if (base + kAttentionTile <= range.first) continue;
    const int count =
        range.last + 1 - base < kAttentionTile ? range.last + 1 - base : kAttentionTile;
    load_keys<V, kType>(tile_blocks<V, kType>(item, base, count, item.k_offset), item.head_dim,
                        s.keys);
    const TileBlocks values = tile_blocks<V, kType>(item, base, count, item.v_offset);
    if (rows <= 4 && item.head_dim == width) {
      attend_tile<V, kType>(item, s, part, rows, base, values,
                            count);  // used once: straight from the cache
      continue;
    }
    load_values<V, kType>(values, count, item.head_dim, s.values);
    TileBlocks copies;
    for (int b = 0; b < kAttentionTile / kv::kBlockTokens; ++b) {
      copies.at[b] = reinterpret_cast<const std::byte*>(s.values + b * kv::kBlockTokens * width);
    }
    attend_tile<V, DType::kF32>(item, s, part, rows, base, copies, count);
  }
}

// A sink is a key without value: weight 1 at its own logit, before all others.
template <class V>
void attention_begin(const AttentionItem& item, const AttentionPart& total) {
  const int rows = item.queries * item.heads;
  for (int r = 0; r < rows; ++r) {
    total.max[r] = item.sinks ? item.sinks[r % item.heads] : -INFINITY;
    total.sum[r] = item.sinks ? 1.0f : 0.0f;
  }
  memset(total.values, 0, static_cast<size_t>(rows * padded_head(item.head_dim)) * sizeof(float));
}

template <class V>
void attention_split(const AttentionItem& item, int split, const AttentionPart& part) {
  const int rows = item.queries * item.heads;
  for (int r = 0; r < rows; ++r) {
    part.max[r] = -INFINITY;
    part.sum[r] = 0;
  }
  memset(part.values, 0, static_cast<size_t>(rows * padded_head(item.head_dim)) * sizeof(float));
  if (item.dtype == DType::kBF16) attend_split<V, DType::kBF16>(item, split, part);
  if (item.dtype == DType::kF16) attend_split<V, DType::kF16>(item, split, part);
  if (item.dtype == DType::kF32) attend_split<V, DType::kF32>(item, split, part);
}

template <class V>
void attention_merge(const AttentionItem& item, const AttentionPart& part,
                     const AttentionPart& total) {
  const int width = padded_head(item.head_dim);
  for (int r = 0; r < item.queries * item.heads; ++r) {
    if (part.sum[r] == 0) continue;  // the row sees nothing of this split
    const float max = part.max[r] > total.max[r] ? part.max[r] : total.max[r];
    float decay[V::kLanes], gain[V::kLanes];
    V::store(decay, exp<V>(V::set1(total.max[r] - max)));
    V::store(gain, exp<V>(V::set1(part.max[r] - max)));
    total.sum[r] = total.sum[r] * decay[0] + part.sum[r] * gain[0];
    total.max[r] = max;
    float* into = total.values + r * width;
    const float* from = part.values + r * width;
    for (int d = 0; d < width; d += V::kLanes) {
      const typename V::F old = V::mul(V::load(into + d), V::set1(decay[0]));
      V::store(into + d, V::fma(V::load(from + d), V::set1(gain[0]), old));
    }
  }
}

template <class V>
void attention_end(const AttentionItem& item, const AttentionPart& total) {
  const int width = padded_head(item.head_dim);
  for (int r = 0; r < item.queries * item.heads; ++r) {
    float* out = item.out + r / item.heads * item.out_stride + r % item.heads * item.head_dim;
    const typename V::F inverse = V::set1(1.0f / total.sum[r]);
    const float* values = total.values + r * width;
    for (int d = 0; d < item.head_dim; d += V::kLanes) {
      const int dims = item.head_dim - d < V::kLanes ? item.head_dim - d : V::kLanes;
      V::store_n(out + d, V::mul(V::load(values + d), inverse), dims);
    }
  }
}

template <class V>
void attention(const AttentionItem& item) {
  const AttentionScratch<V> s(item.scratch, item.head_dim);
  const KeyRange range = visible_keys<V>(item);
  attention_begin<V>(item, s.total);
  for (int split = range.first / kAttentionSplit; split <= range.last / kAttentionSplit; ++split) {
    attention_split<V>(item, split, s.part);
    attention_merge<V>(item, s.part, s.total);
  }
  attention_end<V>(item, s.total);
}

}  // namespace donar::ops::cpu
