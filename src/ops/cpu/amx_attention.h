// Paged attention with AMX for a cache of BF16: rows of an item in blocks of 16, one per lane.
// Tiles of keys come straight from the cache (16 keys times 32 values), queries are laid out in
// pairs once; scores [key][row] need no reduction over lanes; weights become bf16 and meet the
// values of a chunk of 32 keys, whose rows are woven in pairs. A block may hold rows of several kv
// heads: a row's columns are zero in the queries of the others, which adds exact zeros.
#pragma once

#include <immintrin.h>

#include "ops/cpu/amx_attention_rows.h"

namespace donar::ops::cpu::amx {

// bf16(2^x) for x <= 0 (2^-126 below), in the upper half of each lane; relative error before
// rounding below 8e-5. Adding 1.5 * 2^23 rounds to an integer, in additions, which do not wait for
// the tiles as products do.
inline __m512i exp2_bf16(__m512 x) {
  const __m512 big = _mm512_set1_ps(12582912.0f);
  const __m512 clamped = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
  const __m512 shifted = _mm512_add_ps(clamped, big);
  const __m512 r = _mm512_sub_ps(clamped, _mm512_sub_ps(shifted, big));
  __m512 p = _mm512_set1_ps(0.05517167f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24261112f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69326099f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.99992807f));
  // The integer lies in the low bits of `shifted`, whose other bits the shift drops.
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __m512i power = _mm512_add_epi32(_mm512_castps_si512(p), exponent);
  return _mm512_add_epi32(power, _mm512_set1_epi32(0x8000));
}

// One split of one item.
class SplitKernel {
 public:
  SplitKernel(const AttentionItem& item, int split, const Scratch& scratch,
              const AttentionPart& part, const AttentionAhead& ahead)
      : item_(item),
        s_(scratch),
        part_(part),
        split_(split),
        steps_(item.head_dim / kStep),
        row_bytes_(int64_t{item.head_dim} * 2),
        table_(item.block_table + split * (kAttentionSplit / kv::kBlockTokens)),
        item_keys_(within<VecAvx512>(item_keys<VecAvx512>(item), split)),
        count_(row_blocks(item, blocks_)),
        stream_(item, split, blocks_->heads, ahead),
        announced_(ahead.announced) {}

  void run() {
    const RowBlock* blocks = blocks_;
    const int count = count_;
    int i = 0;
    if (item_.kv_heads == 1) {
      for (; i + 2 <= count; i += 2) run_blocks<2>(blocks + i);
    }
    for (; i < count; ++i) run_blocks<1>(blocks + i);
  }

 private:
  // Fours of lines asked for while 32 lines of keys are used or their weights worked out: both
  // passes' lines in all, evenly over the time. The pass over values asks for as many as it uses.
  static constexpr int kAskScores = 6;
  static constexpr int kAskFirst = 16;  // if nobody has asked for the keys
  static constexpr int kAskWeights = 2;

  // The keys or values of a kv head in block i of the split.
  const std::byte* block(int i, int kv_head, bool is_value) const {
    return static_cast<const std::byte*>(item_.cache) +
           (int64_t{table_[i]} * item_.block_elements +
            (is_value ? item_.v_offset : item_.k_offset)) *
               2 +
           kv_head * kv::kBlockTokens * row_bytes_;
  }

  // Chunks [first, end) that hold a key for one of some rows.
  struct Chunks {
    int first, end;
  };

  // The keys that a block's rows see, lane by lane. Lanes without a row repeat the first
  // one's keys; nothing reads their results.
  struct Lanes {
    __m512i begins, ends;
    KeyRange all;  // that every row sees
    Chunks chunks;

    // Which rows see the key; `whole` chunks are seen by all.
    __mmask16 sees(int key) const {
      return static_cast<__mmask16>(_mm512_cmple_epi32_mask(begins, _mm512_set1_epi32(key)) &
                                    _mm512_cmpgt_epi32_mask(ends, _mm512_set1_epi32(key)));
    }
    bool whole(int chunk) const {
      return chunk * kAttentionChunk >= all.first && (chunk + 1) * kAttentionChunk <= all.end;
    }
  };

  Lanes lanes_of(const RowBlock& rows) const {
    alignas(64) int32_t begin[kBlockRows], end[kBlockRows];
    KeyRange some = {kAttentionSplit, 0};
    KeyRange all = {0, kAttentionSplit};
    for (int lane = 0; lane < kBlockRows; ++lane) {
      const int row = rows.first + (lane < rows.rows ? lane : 0);
      const KeyRange keys = within<VecAvx512>(
          query_keys<VecAvx512>(item_, item_row<VecAvx512>(item_, row).query), split_);
      begin[lane] = keys.first;
      end[lane] = keys.end;
      if (keys.first >= keys.end) {
        all = {0, 0};
        continue;
      }
      some = {keys.first < some.first ? keys.first : some.first,
              keys.end > some.end ? keys.end : some.end};
      all = {keys.first > all.first ? keys.first : all.first,
             keys.end < all.end ? keys.end : all.end};
    }
    return {
        _mm512_load_si512(begin), _mm512_load_si512(end), all,
        Chunks{some.first / kAttentionChunk, (some.end + kAttentionChunk - 1) / kAttentionChunk}};
  }

  // Two blocks of one kv head share the tiles of keys and values.
  template <int kBlocks>
  void run_blocks(const RowBlock* rows) {
    // For keys that no earlier block of rows has read.
    const int read = rows == blocks_ ? 0 : rows[-1].first_head + rows[-1].heads;
    asks_ = rows->first_head + rows->heads > read;
    Lanes lanes[kBlocks];
    for (int i = 0; i < kBlocks; ++i) lanes[i] = lanes_of(rows[i]);
    Chunks chunks = lanes[0].chunks;
    if constexpr (kBlocks == 2) {
      const Chunks& other = lanes[1].chunks;
      chunks = {chunks.first < other.first ? chunks.first : other.first,
                chunks.end > other.end ? chunks.end : other.end};
    }
    for (int chunk = chunks.first; chunk < chunks.end; ++chunk) score<kBlocks>(rows, chunk);
    for (int i = 0; i < kBlocks; ++i) {
      softmax(rows[i], lanes[i], chunks, s_.scores + i * kAttentionSplit * kBlockRows,
              s_.weights + i * kTileBytes, kBlocks);
    }
    if constexpr (kBlocks == 2) {
      for (int step = 0; step < steps_; ++step) add_two(rows, chunks, step);
    } else {
      for (int h = 0; h < rows->heads; ++h) {
        int step = 0;
        for (; step + 2 <= steps_; step += 2) add<2>(*rows, chunks, h, step);
        if (step < steps_) add<1>(*rows, chunks, h, step);
      }
    }
    announced_ = true;
  }

  // Scores of a chunk's keys: two tiles of 16 for each block.
  template <int kBlocks>
  void score(const RowBlock* rows, int chunk) {
    zero<0>();
    zero<1>();
    if constexpr (kBlocks == 2) {
      zero<2>();
      zero<3>();
    }
    const int asks = !asks_ ? 0 : announced_ ? kAskScores / 2 : kAskFirst / 2;
    const int i = chunk * kChunkBlocks;
    const bool both = (i + 1) * kv::kBlockTokens < item_keys_.end;
    for (int h = 0; h < rows->heads; ++h) {
      const std::byte* first = block(i, rows->first_head + h, false);
      const std::byte* second = both ? block(i + 1, rows->first_head + h, false) : first;
      const std::byte* q = s_.queries + int64_t{rows->first_pair + h} * steps_ * kTileBytes;
      for (int step = 0; step < steps_; ++step) {
        load<4>(first + step * kRowBytes, row_bytes_);
        load<6>(q + step * kTileBytes, kRowBytes);
        dot_bf16<0, 4, 6>();
        stream_.ask(asks);
        load<5>(second + step * kRowBytes, row_bytes_);
        dot_bf16<1, 5, 6>();
        if constexpr (kBlocks == 2) {
          load<7>(q + (steps_ + step) * kTileBytes, kRowBytes);
          dot_bf16<2, 4, 7>();
          dot_bf16<3, 5, 7>();
        }
        stream_.ask(asks);
      }
    }
    float* scores = s_.scores + chunk * kAttentionChunk * kBlockRows;
    amx::store<0>(scores);
    amx::store<1>(scores + kv::kBlockTokens * kBlockRows);
    if constexpr (kBlocks == 2) {
      scores += kAttentionSplit * kBlockRows;
      amx::store<2>(scores);
      amx::store<3>(scores + kv::kBlockTokens * kBlockRows);
    }
  }

  // Scores -> weights of a block's rows, a tile [row][32 keys] of bf16 for each chunk, `tiles` of
  // them from one chunk to the next; their maxima and sums. Nothing seen: the maximum is
  // -inf and the sum 0.
  void softmax(const RowBlock& rows, const Lanes& lanes, Chunks chunks, const float* all_scores,
               std::byte* weights, int tiles) {
    constexpr auto kAll = static_cast<__mmask16>(0xffff);
    __m512 largest[4];
    for (__m512& m : largest) m = _mm512_set1_ps(-INFINITY);
    for (int chunk = lanes.chunks.first; chunk < lanes.chunks.end; ++chunk) {
      const float* scores = all_scores + chunk * kAttentionChunk * kBlockRows;
      const auto take = [&](auto seen) {
#pragma GCC unroll 4
        for (int key = 0; key < kAttentionChunk; ++key) {
          largest[key % 4] = _mm512_mask_max_ps(largest[key % 4], seen(key), largest[key % 4],
                                                _mm512_load_ps(scores + key * kBlockRows));
        }
      };
      if (lanes.whole(chunk)) {
        take([](int) { return kAll; });
      } else {
        take([&](int key) { return lanes.sees(chunk * kAttentionChunk + key); });
      }
    }
    const __m512 factor = _mm512_set1_ps(item_.scale * kLog2E);
    const __m512 max = _mm512_mul_ps(factor, _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]),
                                                           _mm512_max_ps(largest[2], largest[3])));

    for (int chunk = chunks.first; chunk < chunks.end; ++chunk) {  // that only the other block sees
      if (chunk < lanes.chunks.first || chunk >= lanes.chunks.end)
        memset(weights + chunk * tiles * kTileBytes, 0, kTileBytes);
    }
    const int asks = asks_ ? kAskWeights * rows.heads * steps_ / 4 : 0;
    __m512 total[4];
    for (__m512& sum : total) sum = _mm512_setzero_ps();
    for (int chunk = lanes.chunks.first; chunk < lanes.chunks.end; ++chunk) {
      const float* scores = all_scores + chunk * kAttentionChunk * kBlockRows;
      __m512 pairs[kBlockRows];
      const auto weigh = [&](auto seen) {
        const auto weight = [&](int key) {
          const __m512 score = _mm512_load_ps(scores + key * kBlockRows);
          return _mm512_maskz_and_epi32(seen(key), exp2_bf16(_mm512_fmsub_ps(score, factor, max)),
                                        _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u)));
        };
#pragma GCC unroll 16
        for (int pair = 0; pair < kBlockRows; ++pair) {
          const __m512i even = weight(2 * pair), odd = weight(2 * pair + 1);
          __m512* sums = total + pair % 2 * 2;
          sums[0] = _mm512_add_ps(sums[0], _mm512_castsi512_ps(even));
          sums[1] = _mm512_add_ps(sums[1], _mm512_castsi512_ps(odd));
          pairs[pair] = _mm512_castsi512_ps(_mm512_or_si512(odd, _mm512_srli_epi32(even, 16)));
          if (pair % 4 == 3) stream_.ask(asks);
        }
      };
      if (lanes.whole(chunk)) {
        weigh([](int) { return kAll; });
      } else {
        weigh([&](int key) { return lanes.sees(chunk * kAttentionChunk + key); });
      }
      VecAvx512::transpose(pairs);
#pragma GCC unroll 16
      for (int lane = 0; lane < kBlockRows; ++lane) {
        if (lane >= rows.rows) break;
        _mm512_store_ps(weights + chunk * tiles * kTileBytes + lane * kRowBytes, pairs[lane]);
      }
    }
    const __m512 sum =
        _mm512_add_ps(_mm512_add_ps(total[0], total[1]), _mm512_add_ps(total[2], total[3]));
    _mm512_mask_storeu_ps(part_.max + rows.first, VecAvx512::first(rows.rows), max);
    _mm512_mask_storeu_ps(part_.sum + rows.first, VecAvx512::first(rows.rows), sum);
  }

  // The values [step, step + kSteps) of a chunk's keys, keys 2p and 2p + 1 in row p; zero behind
  // the last key.
  template <int kSteps>
  void weave(const RowBlock& rows, int chunk, int h, int step, std::byte* to) {
    const int keys = item_keys_.end - chunk * kAttentionChunk;
    for (int b = 0; b < kChunkBlocks; ++b) {
      std::byte* tiles = to + b * (kv::kBlockTokens / 2) * kRowBytes;
      const int left = keys - b * kv::kBlockTokens;
      const std::byte* at =
          left > 0 ? block(chunk * kChunkBlocks + b, rows.first_head + h, true) + step * kRowBytes
                   : nullptr;
      const auto pairs = [&](auto load) {
#pragma GCC unroll 8
        for (int key = 0; key < kv::kBlockTokens; key += 2) {
#pragma GCC unroll 2
          for (int i = 0; i < kSteps; ++i) {
            const __m512i even = load(key, i);
            const __m512i odd = load(key + 1, i);
            std::byte* tile = tiles + key / 2 * kRowBytes + i * 2 * kTileBytes;
            _mm512_store_si512(tile, _mm512_unpacklo_epi16(even, odd));
            _mm512_store_si512(tile + kTileBytes, _mm512_unpackhi_epi16(even, odd));
          }
          if (asks_ && (kSteps == 2 || key % 4 == 0)) stream_.ask();
        }
      };
      const auto row = [&](int key, int i) {
        return _mm512_loadu_si512(at + key * row_bytes_ + i * kRowBytes);
      };
      if (left >= kv::kBlockTokens) {
        pairs(row);
      } else {
        pairs([&](int key, int i) { return key < left ? row(key, i) : _mm512_setzero_si512(); });
      }
    }
  }

  // The chunk's values of head h as tiles; woven by the first blocks of rows for the others if the
  // item has one kv head.
  template <int kSteps>
  const std::byte* woven(const RowBlock& rows, int chunk, int h, int step) {
    const bool kept = item_.kv_heads == 1;
    std::byte* values = s_.values + (int64_t{kept ? chunk : 0} * steps_ + step) * 2 * kTileBytes;
    if (kept && (woven_[chunk] >> step & 1) != 0) return values;
    weave<kSteps>(rows, chunk, h, step, values);
    woven_[chunk] |= ((1u << kSteps) - 1) << step;
    return values;
  }

  // part.values [step, step + kSteps) = weights . values, of the rows of a block's kv head h. The
  // tiles of weights begin with the head's first row; what lies behind its last one is multiplied
  // as well, and left.
  template <int kSteps>
  void add(const RowBlock& rows, Chunks chunks, int h, int step) {
    const int of_head = item_.queries * item_.heads;
    const int begin = (rows.first_head + h) * of_head - rows.first;
    const int first = begin > 0 ? begin : 0;
    const int end = begin + of_head < rows.rows ? begin + of_head : rows.rows;
    zero<0>();
    zero<1>();
    if constexpr (kSteps == 2) {
      zero<2>();
      zero<3>();
    }
    for (int chunk = chunks.first; chunk < chunks.end; ++chunk) {
      const std::byte* values = woven<kSteps>(rows, chunk, h, step);
      load<4>(s_.weights + chunk * kTileBytes + first * kRowBytes, kRowBytes);
      load<5>(values, kRowBytes);
      dot_bf16<0, 4, 5>();
      load<6>(values + kTileBytes, kRowBytes);
      dot_bf16<1, 4, 6>();
      if constexpr (kSteps == 2) {
        load<7>(values + 2 * kTileBytes, kRowBytes);
        dot_bf16<2, 4, 7>();
        load<5>(values + 3 * kTileBytes, kRowBytes);
        dot_bf16<3, 4, 5>();
      }
    }
    store_sums<0, 1>(rows.first + first, end - first, step);
    if constexpr (kSteps == 2) store_sums<2, 3>(rows.first + first, end - first, step + 1);
  }

  // The same of one step and two blocks.
  void add_two(const RowBlock* rows, Chunks chunks, int step) {
    zero<0>();
    zero<1>();
    zero<2>();
    zero<3>();
    for (int chunk = chunks.first; chunk < chunks.end; ++chunk) {
      const std::byte* values = woven<1>(*rows, chunk, 0, step);
      const std::byte* weights = s_.weights + chunk * 2 * kTileBytes;
      load<6>(values, kRowBytes);
      load<4>(weights, kRowBytes);
      dot_bf16<0, 4, 6>();
      load<5>(weights + kTileBytes, kRowBytes);
      dot_bf16<2, 5, 6>();
      load<7>(values + kTileBytes, kRowBytes);
      dot_bf16<1, 4, 7>();
      dot_bf16<3, 5, 7>();
    }
    store_sums<0, 1>(rows[0].first, rows[0].rows, step);
    store_sums<2, 3>(rows[1].first, rows[1].rows, step);
  }

  // The two tiles of a step hold fours of its values in turn.
  template <int kLow, int kHigh>
  void store_sums(int first_row, int rows, int step) const {
    amx::store<kLow>(s_.sums);
    amx::store<kHigh>(s_.sums + kRows * kBlockRows);
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second =
        _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    float* to = part_.values + first_row * item_.head_dim + step * kStep;
    for (int lane = 0; lane < rows; ++lane, to += item_.head_dim) {
      const __m512 low = _mm512_load_ps(s_.sums + lane * kBlockRows);
      const __m512 high = _mm512_load_ps(s_.sums + (kRows + lane) * kBlockRows);
      _mm512_storeu_ps(to, _mm512_permutex2var_ps(low, first, high));
      _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(low, second, high));
    }
  }

  const AttentionItem& item_;
  const Scratch& s_;
  const AttentionPart& part_;
  int split_;
  int steps_;
  int64_t row_bytes_;
  const int32_t* table_;
  KeyRange item_keys_;
  RowBlock blocks_[kMostBlocks];
  int count_;
  KeyStream<VecAvx512, 2> stream_;
  bool announced_;  // the keys of the blocks that come next are on their way
  bool asks_ = true;
  uint32_t woven_[kSplitChunks] = {};  // steps, if the item has one kv head
};

inline void attention_split(const AttentionItem& item, int split, const AttentionPart& part,
                            const AttentionAhead& ahead) {
  if (!takes(item)) return cpu::attention_split<VecAvx512>(item, split, part, ahead);
  const Scratch s(item.scratch, item.head_dim);
  load_item_queries(item, s);
  const Shapes shapes(kAttentionShapes);
  SplitKernel(item, split, s, part, ahead).run();
}

inline void attention(const AttentionItem& item, const AttentionAhead& ahead) {
  if (!takes(item)) return cpu::attention<VecAvx512>(item, ahead);
  const Scratch s(item.scratch, item.head_dim);
  load_item_queries(item, s);
  const Shapes shapes(kAttentionShapes);
  const KeyRange keys = item_keys<VecAvx512>(item);
  const int first = keys.first / kAttentionSplit;
  const int last = (keys.end - 1) / kAttentionSplit;
  attend_item<VecAvx512>(item, s.part, s.total, [&](int split) {
    AttentionAhead here = ahead;
    if (split < last) here = {.item = &item, .split = split + 1};
    here.announced = split > first || ahead.announced;
    SplitKernel(item, split, s, s.part, here).run();
  });
}

}  // namespace donar::ops::cpu::amx
