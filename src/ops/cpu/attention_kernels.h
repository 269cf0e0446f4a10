// Paged attention over a Vec, one item: up to 64 query rows, each against one of the item's kv
// heads. Keys are taken in splits of 512 at absolute positions: all scores of a split, then its
// softmax, then its weighted values; the splits are merged in order. Whatever a row's neighbours
// are, its own sums run over the same keys in the same order.
#pragma once

#include "ops/cpu/attention_tiles.h"

namespace donar::ops::cpu {

constexpr int kAttentionTile = 64;  // keys that are transposed at a time for many rows

// The item's scratch, carved out of AttentionItem::scratch (attention_scratch_bytes).
template <class V>
struct AttentionScratch {
  float* queries;       // [rows][padded head]
  float* keys;          // [head_dim][64] or [32]: transposed, lanes are keys
  float* values;        // [32][padded head]
  float* weights;       // [rows][kScoreStride]: scores, then weights
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
    queries = take(kAttentionRows * head);
    keys = take(head * kAttentionTile);
    values = take(head * kAttentionChunk);
    weights = take(kAttentionRows * kScoreStride);
    part = {take(kAttentionRows * head), take(kAttentionRows), take(kAttentionRows)};
    total = {take(kAttentionRows * head), take(kAttentionRows), take(kAttentionRows)};
  }
};

template <class V>
void load_queries(const AttentionItem& item, float* queries) {
  const int width = padded_head(item.head_dim);
  for (int row = 0; row < item.kv_heads * item.queries * item.heads; ++row) {
    const auto [kv_head, query, head] = item_row<V>(item, row);
    const float* q = item.q + query * item.q_stride + (kv_head * item.heads + head) * item.head_dim;
    for (int d = 0; d < item.head_dim; d += V::kLanes) {
      const int dims = item.head_dim - d < V::kLanes ? item.head_dim - d : V::kLanes;
      const typename V::F x = V::load_n(q + d, dims);
      V::store(queries + row * width + d, item.dtype == DType::kBF16 ? V::round_bf16(x) : x);
    }
  }
}

// One split of one item, step by step.
template <class V, DType kType>
class SplitKernel {
 public:
  SplitKernel(const AttentionItem& item, int split, const AttentionScratch<V>& scratch,
              const AttentionPart& part)
      : item_(item),
        s_(scratch),
        part_(part),
        split_(split),
        rows_(item.queries * item.heads),
        width_(padded_head(item.head_dim)),
        keys_(within<V>(item_keys<V>(item), split)),
        table_(item.block_table + split * (kAttentionSplit / kv::kBlockTokens)),
        head_bytes_(int64_t{kv::kBlockTokens} * item.head_dim * Cache::kBytes) {}

  void run() {
    if (rows_ <= kFewRows) {
      score_few();
      softmax();
      add_few();
    } else {
      score_many();
      softmax();
      add_many();
    }
  }

 private:
  using Cache = CacheType<V, kType>;
  static constexpr int kFewRows = 4;    // of a kv head: keys and values are used once
  static constexpr int64_t kAhead = 2;  // (block, head) pieces fetched before they are used

  // The keys or values of a kv head in block i of the split.
  const std::byte* block(int i, int kv_head, bool is_value) const {
    return static_cast<const std::byte*>(item_.cache) +
           (int64_t{table_[i]} * item_.block_elements +
            (is_value ? item_.v_offset : item_.k_offset)) *
               Cache::kBytes +
           kv_head * head_bytes_;
  }
  int first_chunk() const { return keys_.first / kAttentionChunk; }
  int end_chunk() const { return (keys_.end + kAttentionChunk - 1) / kAttentionChunk; }
  // Blocks of a chunk that hold a key.
  int chunk_blocks(int chunk) const {
    const int blocks =
        (keys_.end - chunk * kAttentionChunk + kv::kBlockTokens - 1) / kv::kBlockTokens;
    return blocks < kChunkBlocks ? blocks : kChunkBlocks;
  }
  int chunk_keys(int chunk) const {
    const int keys = keys_.end - chunk * kAttentionChunk;
    return keys < kAttentionChunk ? keys : kAttentionChunk;
  }

  // Block b of a (chunk, kv head) piece of the passes over keys, then values; of the last one
  // beyond.
  const std::byte* piece_block(int64_t piece, int b) const {
    const int64_t of_pass = int64_t{end_chunk() - first_chunk()} * item_.kv_heads;
    const bool is_value = piece >= of_pass;
    if (is_value) piece -= of_pass;
    if (piece >= of_pass) piece = of_pass - 1;
    const int chunk = first_chunk() + static_cast<int>(piece / item_.kv_heads);
    const int last = chunk_blocks(chunk) - 1;
    return block(chunk * kChunkBlocks + (b < last ? b : last),
                 static_cast<int>(piece % item_.kv_heads), is_value);
  }

  // Calls op<R>() for R = 1..4.
  template <class Op>
  static void with_rows(int rows, Op op) {
    switch (rows) {
      case 4:
        return op.template operator()<4>();
      case 3:
        return op.template operator()<3>();
      case 2:
        return op.template operator()<2>();
      default:
        return op.template operator()<1>();
    }
  }

  void score_few() {
    int64_t piece = kAhead;
    for (int chunk = first_chunk(); chunk < end_chunk(); ++chunk) {
      for (int h = 0; h < item_.kv_heads; ++h) {
        for (int b = 0; b < chunk_blocks(chunk); ++b) {
          load_keys<V, kType, kAttentionChunk>(block(chunk * kChunkBlocks + b, h, false),
                                               item_.head_dim, s_.keys + b * kv::kBlockTokens,
                                               piece_block(piece, b));
        }
        ++piece;
        with_rows(rows_, [&]<int R>() {
          score_rows<V, R, kAttentionChunk>(
              s_.queries + h * R * width_, item_.head_dim, s_.keys,
              s_.weights + h * R * kScoreStride + chunk * kAttentionChunk);
        });
      }
    }
  }

  void add_few() {
    const int64_t pieces = int64_t{end_chunk() - first_chunk()} * item_.kv_heads;
    int64_t piece = pieces + kAhead;
    const bool in_place = item_.head_dim == width_;
    for (int chunk = first_chunk(); chunk < end_chunk(); ++chunk) {
      for (int h = 0; h < item_.kv_heads; ++h) {
        const std::byte* blocks[kChunkBlocks] = {};
        const std::byte* later[kChunkBlocks] = {piece_block(piece, 0), piece_block(piece, 1)};
        ++piece;
        for (int b = 0; b < chunk_blocks(chunk); ++b)
          blocks[b] = block(chunk * kChunkBlocks + b, h, true);
        with_rows(rows_, [&]<int R>() {
          const float* weights = s_.weights + h * R * kScoreStride + chunk * kAttentionChunk;
          float* into = part_.values + h * R * width_;
          if (in_place) {
            add_values<V, R, kType, true>(weights, blocks, chunk_keys(chunk), width_, into, later);
          } else {
            copy_values(chunk, blocks);
            add_values<V, R, DType::kF32, false>(weights, blocks, chunk_keys(chunk), width_, into,
                                                 later);
          }
        });
      }
    }
  }

  // The chunk's values as floats in scratch; `blocks` then points there.
  void copy_values(int chunk, const std::byte* (&blocks)[kChunkBlocks]) {
    for (int b = 0; b < chunk_blocks(chunk); ++b) {
      const int keys = chunk_keys(chunk) - b * kv::kBlockTokens;
      float* copy = s_.values + b * kv::kBlockTokens * width_;
      load_values<V, kType>(blocks[b], keys < kv::kBlockTokens ? keys : kv::kBlockTokens,
                            item_.head_dim, copy);
      blocks[b] = reinterpret_cast<const std::byte*>(copy);
    }
  }

  // Whether one of the rows sees a key of [begin, end).
  bool any_sees(int row, int rows, int begin, int end) const {
    for (int query = row % rows_ / item_.heads; query <= (row + rows - 1) % rows_ / item_.heads;
         ++query) {
      const KeyRange keys = within<V>(query_keys<V>(item_, query), split_);
      if (keys.first < end && keys.end > begin) return true;
    }
    return false;
  }

  // Calls op<R>(row) for the rows of a kv head, up to four at a time, that see a key of
  // [begin, end).
  template <class Op>
  void each_rows(int kv_head, int begin, int end, Op op) {
    for (int row = 0; row < rows_; row += 4) {
      const int rows = rows_ - row < 4 ? rows_ - row : 4;
      if (!any_sees(row, rows, begin, end)) continue;
      with_rows(rows, [&]<int R>() { op.template operator()<R>(kv_head * rows_ + row); });
    }
  }

  void score_many() {
    const int first_tile = keys_.first / kAttentionTile;
    constexpr int kTileBlocks = kAttentionTile / kv::kBlockTokens;
    for (int base = first_tile * kAttentionTile; base < keys_.end; base += kAttentionTile) {
      for (int h = 0; h < item_.kv_heads; ++h) {
        for (int b = 0; b < kTileBlocks; ++b) {
          const int i = base / kv::kBlockTokens + b;
          if (i * kv::kBlockTokens >= keys_.end) break;
          load_keys<V, kType, kAttentionTile>(block(i, h, false), item_.head_dim,
                                              s_.keys + b * kv::kBlockTokens, block(i, h, false));
        }
        each_rows(h, base, base + kAttentionTile, [&]<int R>(int row) {
          score_rows<V, R, kAttentionTile>(s_.queries + row * width_, item_.head_dim, s_.keys,
                                           s_.weights + row * kScoreStride + base);
        });
      }
    }
  }

  void add_many() {
    for (int chunk = first_chunk(); chunk < end_chunk(); ++chunk) {
      for (int h = 0; h < item_.kv_heads; ++h) {
        const std::byte* blocks[kChunkBlocks] = {};
        for (int b = 0; b < chunk_blocks(chunk); ++b)
          blocks[b] = block(chunk * kChunkBlocks + b, h, true);
        copy_values(chunk, blocks);
        each_rows(h, chunk * kAttentionChunk, (chunk + 1) * kAttentionChunk, [&]<int R>(int row) {
          add_values<V, R, DType::kF32, false>(
              s_.weights + row * kScoreStride + chunk * kAttentionChunk, blocks, chunk_keys(chunk),
              width_, part_.values + row * width_, blocks);
        });
      }
    }
  }

  void softmax() {
    for (int row = 0; row < item_.kv_heads * rows_; ++row) {
      const KeyRange keys = within<V>(query_keys<V>(item_, row % rows_ / item_.heads), split_);
      part_.max[row] = -INFINITY;
      part_.sum[row] = 0;
      softmax_row<V, Cache::kRounds>(s_.weights + row * kScoreStride, keys.first, keys.end,
                                     first_chunk() * kAttentionChunk, end_chunk() * kAttentionChunk,
                                     item_.scale * kLog2E, part_.max[row], part_.sum[row]);
    }
    memset(part_.values, 0, static_cast<size_t>(item_.kv_heads * rows_ * width_) * sizeof(float));
  }

  const AttentionItem& item_;
  const AttentionScratch<V>& s_;
  const AttentionPart& part_;
  int split_;
  int rows_;  // of each kv head
  int width_;
  KeyRange keys_;  // of the split that the item sees
  const int32_t* table_;
  int64_t head_bytes_;
};

template <class V>
void run_split(const AttentionItem& item, int split, const AttentionScratch<V>& s,
               const AttentionPart& part) {
  if (item.dtype == DType::kBF16) SplitKernel<V, DType::kBF16>(item, split, s, part).run();
  if (item.dtype == DType::kF16) SplitKernel<V, DType::kF16>(item, split, s, part).run();
  if (item.dtype == DType::kF32) SplitKernel<V, DType::kF32>(item, split, s, part).run();
}

// A sink is a key without value: weight 1 at its own logit, before all others.
template <class V>
void attention_begin(const AttentionItem& item, const AttentionPart& total) {
  for (int r = 0; r < item_rows<V>(item); ++r) {
    const auto [kv_head, query, head] = item_row<V>(item, r);
    total.max[r] = item.sinks ? item.sinks[kv_head * item.heads + head] * kLog2E : -INFINITY;
    total.sum[r] = item.sinks ? 1.0f : 0.0f;
  }
  memset(total.values, 0,
         static_cast<size_t>(item_rows<V>(item) * padded_head(item.head_dim)) * sizeof(float));
}

template <class V>
void attention_split(const AttentionItem& item, int split, const AttentionPart& part,
                     const AttentionAhead&) {
  const AttentionScratch<V> s(item.scratch, item.head_dim);
  load_queries<V>(item, s.queries);
  run_split<V>(item, split, s, part);
}

template <class V>
void attention_merge(const AttentionItem& item, const AttentionPart& part,
                     const AttentionPart& total) {
  const int width = padded_head(item.head_dim);
  const int rows = item_rows<V>(item);
  for (int first = 0; first < rows; first += V::kLanes) {
    // The factors of a Vec of rows at once.
    const int count = rows - first < V::kLanes ? rows - first : V::kLanes;
    const typename V::F part_max = V::load_n(part.max + first, count);
    const typename V::F total_max = V::load_n(total.max + first, count);
    const typename V::F max = V::max(part_max, total_max);
    float maxima[V::kLanes], decays[V::kLanes], gains[V::kLanes];
    V::store(maxima, max);
    V::store(decays, exp2_negative<V>(V::sub(total_max, max)));
    V::store(gains, exp2_negative<V>(V::sub(part_max, max)));
    for (int lane = 0; lane < count; ++lane) {
      const int r = first + lane;
      if (part.sum[r] == 0) continue;  // the row sees nothing of this split
      total.sum[r] = total.sum[r] * decays[lane] + part.sum[r] * gains[lane];
      total.max[r] = maxima[lane];
      const typename V::F decay = V::set1(decays[lane]), gain = V::set1(gains[lane]);
      float* into = total.values + r * width;
      const float* from = part.values + r * width;
      for (int d = 0; d < width; d += V::kLanes) {
        const typename V::F old = V::mul(V::load(into + d), decay);
        V::store(into + d, V::fma(V::load(from + d), gain, old));
      }
    }
  }
}

template <class V>
void attention_end(const AttentionItem& item, const AttentionPart& total) {
  const int width = padded_head(item.head_dim);
  for (int r = 0; r < item_rows<V>(item); ++r) {
    const auto [kv_head, query, head] = item_row<V>(item, r);
    float* out = item.out + query * item.out_stride + (kv_head * item.heads + head) * item.head_dim;
    const typename V::F inverse = V::set1(1.0f / total.sum[r]);
    const float* values = total.values + r * width;
    for (int d = 0; d < item.head_dim; d += V::kLanes) {
      const int dims = item.head_dim - d < V::kLanes ? item.head_dim - d : V::kLanes;
      V::store_n(out + d, V::mul(V::load(values + d), inverse), dims);
    }
  }
}

// All splits of an item: run_split(split) fills `part`.
template <class V, class RunSplit>
void attend_item(const AttentionItem& item, const AttentionPart& part, const AttentionPart& total,
                 RunSplit run_split) {
  const KeyRange keys = item_keys<V>(item);
  const int first = keys.first / kAttentionSplit;
  const int last = (keys.end - 1) / kAttentionSplit;
  if (first == last && item.sinks == nullptr) {  // a merge into nothing changes nothing
    run_split(first);
    return attention_end<V>(item, part);
  }
  attention_begin<V>(item, total);
  for (int split = first; split <= last; ++split) {
    run_split(split);
    attention_merge<V>(item, part, total);
  }
  attention_end<V>(item, total);
}

template <class V>
void attention(const AttentionItem& item, const AttentionAhead&) {
  const AttentionScratch<V> s(item.scratch, item.head_dim);
  load_queries<V>(item, s.queries);
  attend_item<V>(item, s.part, s.total, [&](int split) { run_split<V>(item, split, s, s.part); });
}

}  // namespace donar::ops::cpu
