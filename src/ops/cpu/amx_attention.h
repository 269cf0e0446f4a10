// Paged attention with AMX for a cache of BF16: rows of an item in blocks of 16, one per lane.
// Tiles of keys come straight from the cache (16 keys times 32 values), queries are laid out in
// pairs once; scores [key][row] need no reduction over lanes; weights become bf16 and meet the
// values of a chunk of 32 keys, whose rows are woven in pairs. A block may hold rows of several kv
// heads: a row's columns are zero in the queries and weights of the others, which adds exact zeros.
#pragma once

#include <immintrin.h>

#include "ops/cpu/amx_tiles.h"
#include "ops/cpu/attention_kernels.h"
#include "ops/cpu/common/vec_avx512.h"

namespace donar::ops::cpu::amx {

inline constexpr int kStep = 32;  // values of a head that a tile multiplies
inline constexpr int kTileBytes = kRows * kRowBytes;
inline constexpr int kMostPairs = kAttentionSharedRows + 1;  // (block of rows, kv head) of an item
inline constexpr int kBlockRows = 16;
inline constexpr int kMostBlocks = kAttentionRows / kBlockRows;

// Whether AMX takes the item; the same for every row that the kernel sees of one cache.
inline bool takes(const AttentionItem& item) {
  return item.dtype == DType::kBF16 && item.head_dim % kStep == 0;
}

constexpr Config attention_shapes() {
  Config config;
  config.set(0, kTiles - 1, kRows, kRowBytes);
  return config;
}
inline constexpr Config kAttentionShapes = attention_shapes();

// What amx::attention carves out of an item's scratch (amx_attention_scratch_bytes).
struct Scratch {
  std::byte* queries;  // [pairs][steps] tiles: row p of a tile is values 2p, 2p + 1 of 16 rows
  std::byte* values;   // [chunk or head][steps][2] tiles
  std::byte* weights;  // [heads of a block] tiles
  float* scores;       // [256][16]
  float* sums;         // [steps][2] tiles
  AttentionPart part, total;

  Scratch(std::byte* memory, int head_dim) {
    const int steps = head_dim / kStep;
    const auto take = [&](int64_t bytes) {
      std::byte* taken = memory;
      memory += bytes;
      return taken;
    };
    const auto floats = [&](int64_t count) {
      return reinterpret_cast<float*>(take(count * int64_t{sizeof(float)}));
    };
    queries = take(int64_t{kMostPairs} * steps * kTileBytes);
    values = take(int64_t{kBlockRows} * steps * 2 * kTileBytes);
    weights = take(int64_t{kBlockRows} * kTileBytes);
    scores = floats(kAttentionSplit * kBlockRows);
    sums = floats(int64_t{head_dim} * kBlockRows);
    part = {floats(int64_t{kAttentionRows} * head_dim), floats(kAttentionRows),
            floats(kAttentionRows)};
    total = {floats(int64_t{kAttentionRows} * head_dim), floats(kAttentionRows),
             floats(kAttentionRows)};
  }
};

// Sixteen rows of an item; those of the item's end have fewer.
struct RowBlock {
  int first, rows;
  int first_head, heads;  // kv heads that it holds rows of
  int first_pair;         // their queries in Scratch::queries
};

inline int row_blocks(const AttentionItem& item, RowBlock (&blocks)[kMostBlocks]) {
  const int rows = item.queries * item.heads;
  int count = 0;
  int pairs = 0;
  for (int first = 0; first < item.kv_heads * rows; first += kBlockRows) {
    const int left = item.kv_heads * rows - first;
    RowBlock& block = blocks[count++];
    block.first = first;
    block.rows = left < kBlockRows ? left : kBlockRows;
    block.first_head = first / rows;
    block.heads = (first + block.rows - 1) / rows - block.first_head + 1;
    block.first_pair = pairs;
    pairs += block.heads;
  }
  return count;
}

inline __m512i bf16_row(const float* x) {
  const __m256i low = _mm512_cvtepi32_epi16(VecAvx512::bf16_bits(_mm512_loadu_ps(x)));
  const __m256i high = _mm512_cvtepi32_epi16(VecAvx512::bf16_bits(_mm512_loadu_ps(x + 16)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

inline void load_queries(const AttentionItem& item, const RowBlock& block, std::byte* queries) {
  const int steps = item.head_dim / kStep;
  std::byte* to = queries + int64_t{block.first_pair} * steps * kTileBytes;
  for (int h = 0; h < block.heads; ++h) {
    for (int step = 0; step < steps; ++step, to += kTileBytes) {
      __m512 rows[kBlockRows];
#pragma GCC unroll 16
      for (int lane = 0; lane < kBlockRows; ++lane) {
        rows[lane] = _mm512_setzero_ps();
        if (lane >= block.rows) continue;
        const auto [kv_head, query, head] = item_row<VecAvx512>(item, block.first + lane);
        if (kv_head != block.first_head + h) continue;
        rows[lane] = _mm512_castsi512_ps(bf16_row(item.q + query * item.q_stride +
                                                  (kv_head * item.heads + head) * item.head_dim +
                                                  step * kStep));
      }
      VecAvx512::transpose(rows);
#pragma GCC unroll 16
      for (int pair = 0; pair < kBlockRows; ++pair)
        _mm512_store_ps(to + pair * kRowBytes, rows[pair]);
    }
  }
}

// 2^x for x <= 0, relative error below 5e-6: bf16 keeps eight bits. 0 below -126.
inline __m512 exp2_weight(__m512 x) {
  const __m512 clamped = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
  const __m512 n = VecAvx512::round(clamped);
  const __m512 r = _mm512_sub_ps(clamped, n);
  __m512 p = _mm512_set1_ps(9.61812911e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.55041087e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40226507e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93147181e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ), p, n);
}

// One split of one item.
class SplitKernel {
 public:
  SplitKernel(const AttentionItem& item, int split, const Scratch& scratch,
              const AttentionPart& part)
      : item_(item),
        s_(scratch),
        part_(part),
        split_(split),
        steps_(item.head_dim / kStep),
        row_bytes_(int64_t{item.head_dim} * 2),
        table_(item.block_table + split * (kAttentionSplit / kv::kBlockTokens)),
        item_keys_(within<VecAvx512>(item_keys<VecAvx512>(item), split)) {}

  void run() {
    RowBlock blocks[kMostBlocks];
    const int count = row_blocks(item_, blocks);
    for (int i = 0; i < count; ++i) run_block(blocks[i]);
  }

 private:
  const std::byte* block(int i, int kv_head, bool is_value) const {
    return static_cast<const std::byte*>(item_.cache) +
           (int64_t{table_[i]} * item_.block_elements +
            (is_value ? item_.v_offset : item_.k_offset)) *
               2 +
           kv_head * kv::kBlockTokens * row_bytes_;
  }

  void run_block(const RowBlock& rows) {
    alignas(64) int32_t begin[kBlockRows], end[kBlockRows];
    KeyRange some = {kAttentionSplit, 0};  // keys that one of the rows sees
    KeyRange all = {0, kAttentionSplit};   // that all of them see
    for (int lane = 0; lane < kBlockRows; ++lane) {
      // Lanes without a row repeat the first one's keys; nothing reads their results.
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
    const int first_chunk = some.first / kAttentionChunk;
    const int end_chunk = (some.end + kAttentionChunk - 1) / kAttentionChunk;
    for (int chunk = first_chunk; chunk < end_chunk; ++chunk) score(rows, chunk);

    const __m512i begins = _mm512_load_si512(begin), ends = _mm512_load_si512(end);
    const auto sees = [&](int key) {
      return static_cast<__mmask16>(_mm512_cmple_epi32_mask(begins, _mm512_set1_epi32(key)) &
                                    _mm512_cmpgt_epi32_mask(ends, _mm512_set1_epi32(key)));
    };
    const auto full = [&](int chunk) {
      return chunk * kAttentionChunk >= all.first && (chunk + 1) * kAttentionChunk <= all.end;
    };
    __m512 largest[4];
    for (__m512& m : largest) m = _mm512_set1_ps(-INFINITY);
    for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
      const float* scores = s_.scores + chunk * kAttentionChunk * kBlockRows;
      const bool whole = full(chunk);
#pragma GCC unroll 4
      for (int key = 0; key < kAttentionChunk; ++key) {
        const __mmask16 seen =
            whole ? static_cast<__mmask16>(0xffff) : sees(chunk * kAttentionChunk + key);
        largest[key % 4] = _mm512_mask_max_ps(largest[key % 4], seen, largest[key % 4],
                                              _mm512_load_ps(scores + key * kBlockRows));
      }
    }
    const __m512 factor = _mm512_set1_ps(item_.scale * kLog2E);
    const __m512 max = _mm512_mul_ps(factor, _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]),
                                                           _mm512_max_ps(largest[2], largest[3])));

    memset(s_.sums, 0, static_cast<size_t>(steps_ * 2 * kTileBytes));
    memset(s_.weights, 0, static_cast<size_t>(rows.heads * kTileBytes));
    __m512 total[4];
    for (__m512& sum : total) sum = _mm512_setzero_ps();
    for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
      const float* scores = s_.scores + chunk * kAttentionChunk * kBlockRows;
      const bool whole = full(chunk);
      __m512 pairs[kBlockRows];
      const auto weight = [&](int key) {
        const __mmask16 seen =
            whole ? static_cast<__mmask16>(0xffff) : sees(chunk * kAttentionChunk + key);
        const __m512 w =
            exp2_weight(_mm512_fmsub_ps(_mm512_load_ps(scores + key * kBlockRows), factor, max));
        return _mm512_maskz_and_epi32(
            seen, _mm512_add_epi32(_mm512_castps_si512(w), _mm512_set1_epi32(0x8000)),
            _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u)));
      };
#pragma GCC unroll 16
      for (int pair = 0; pair < kBlockRows; ++pair) {
        const __m512i even = weight(2 * pair), odd = weight(2 * pair + 1);
        total[pair % 2 * 2] = _mm512_add_ps(total[pair % 2 * 2], _mm512_castsi512_ps(even));
        total[pair % 2 * 2 + 1] = _mm512_add_ps(total[pair % 2 * 2 + 1], _mm512_castsi512_ps(odd));
        pairs[pair] = _mm512_castsi512_ps(_mm512_or_si512(odd, _mm512_srli_epi32(even, 16)));
      }
      VecAvx512::transpose(pairs);
      const int of_head = item_.queries * item_.heads;
#pragma GCC unroll 16
      for (int lane = 0; lane < kBlockRows; ++lane) {
        if (lane >= rows.rows) break;
        const int head = (rows.first + lane) / of_head - rows.first_head;
        _mm512_store_ps(s_.weights + head * kTileBytes + lane * kRowBytes, pairs[lane]);
      }
      add(rows, chunk);
    }
    const __m512 sum =
        _mm512_add_ps(_mm512_add_ps(total[0], total[1]), _mm512_add_ps(total[2], total[3]));
    // Nothing seen: the maximum is -inf and the sum 0.
    _mm512_mask_storeu_ps(part_.max + rows.first, VecAvx512::first(rows.rows), max);
    _mm512_mask_storeu_ps(part_.sum + rows.first, VecAvx512::first(rows.rows), sum);
    store(rows);
  }

  // Scores of a chunk's keys: two tiles of 16.
  void score(const RowBlock& rows, int chunk) const {
    zero<0>();
    zero<1>();
    const int i = chunk * (kAttentionChunk / kv::kBlockTokens);
    const bool both = (i + 1) * kv::kBlockTokens < item_keys_.end;
    for (int h = 0; h < rows.heads; ++h) {
      const std::byte* first = block(i, rows.first_head + h, false);
      const std::byte* second = both ? block(i + 1, rows.first_head + h, false) : first;
      const std::byte* q = s_.queries + int64_t{rows.first_pair + h} * steps_ * kTileBytes;
      for (int step = 0; step < steps_; ++step) {
        load<4>(q + step * kTileBytes, kRowBytes);
        load<2>(first + step * kRowBytes, row_bytes_);
        load<3>(second + step * kRowBytes, row_bytes_);
        dot_bf16<0, 2, 4>();
        dot_bf16<1, 3, 4>();
      }
    }
    float* scores = s_.scores + chunk * kAttentionChunk * kBlockRows;
    amx::store<0>(scores);
    amx::store<1>(scores + kv::kBlockTokens * kBlockRows);
  }

  // The chunk's values of a head, keys 2p and 2p + 1 in row p; zero behind the last key.
  void weave(int chunk, int kv_head, std::byte* to) const {
    const int i = chunk * (kAttentionChunk / kv::kBlockTokens);
    const int keys = item_keys_.end - chunk * kAttentionChunk;
    for (int pair = 0; pair < kRows; ++pair) {
      const int key = 2 * pair;
      const std::byte* even = key < keys ? block(i + key / kv::kBlockTokens, kv_head, true) +
                                               key % kv::kBlockTokens * row_bytes_
                                         : nullptr;
      for (int step = 0; step < steps_; ++step) {
        const __m512i a =
            key < keys ? _mm512_loadu_si512(even + step * kRowBytes) : _mm512_setzero_si512();
        const __m512i b = key + 1 < keys ? _mm512_loadu_si512(even + row_bytes_ + step * kRowBytes)
                                         : _mm512_setzero_si512();
        std::byte* tiles = to + step * 2 * kTileBytes + pair * kRowBytes;
        _mm512_store_si512(tiles, _mm512_unpacklo_epi16(a, b));
        _mm512_store_si512(tiles + kTileBytes, _mm512_unpackhi_epi16(a, b));
      }
    }
  }

  // sums += weights of the chunk . its values
  void add(const RowBlock& rows, int chunk) const {
    const int64_t head_bytes = int64_t{steps_} * 2 * kTileBytes;
    const bool kept = item_.kv_heads == 1;  // woven by the first block of rows for the others
    std::byte* values = kept ? s_.values + chunk * head_bytes : s_.values;
    for (int h = 0; h < rows.heads; ++h) {
      if (!kept || !(woven_ >> chunk & 1))
        weave(chunk, rows.first_head + h, values + h * head_bytes);
    }
    if (kept) woven_ |= 1u << chunk;
    for (int step = 0; step < steps_; ++step) {
      float* sums = s_.sums + step * 2 * kTileBytes / int64_t{sizeof(float)};
      load<0>(sums, kRowBytes);
      load<1>(sums + kRows * kBlockRows, kRowBytes);
      for (int h = 0; h < rows.heads; ++h) {
        const std::byte* from = values + h * head_bytes + step * 2 * kTileBytes;
        load<2>(s_.weights + h * kTileBytes, kRowBytes);
        load<3>(from, kRowBytes);
        load<4>(from + kTileBytes, kRowBytes);
        dot_bf16<0, 2, 3>();
        dot_bf16<1, 2, 4>();
      }
      amx::store<0>(sums);
      amx::store<1>(sums + kRows * kBlockRows);
    }
  }

  // The sums of a step's two tiles hold fours of its values in turn.
  void store(const RowBlock& rows) const {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second =
        _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int lane = 0; lane < rows.rows; ++lane) {
      float* to = part_.values + (rows.first + lane) * item_.head_dim;
      for (int step = 0; step < steps_; ++step) {
        const float* sums = s_.sums + step * 2 * kRows * kBlockRows + lane * kBlockRows;
        const __m512 low = _mm512_load_ps(sums);
        const __m512 high = _mm512_load_ps(sums + kRows * kBlockRows);
        _mm512_storeu_ps(to + step * kStep, _mm512_permutex2var_ps(low, first, high));
        _mm512_storeu_ps(to + step * kStep + 16, _mm512_permutex2var_ps(low, second, high));
      }
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
  mutable uint32_t woven_ = 0;  // chunks, if the item has one kv head
};

inline void load_item_queries(const AttentionItem& item, const Scratch& s) {
  RowBlock blocks[kMostBlocks];
  const int count = row_blocks(item, blocks);
  for (int i = 0; i < count; ++i) load_queries(item, blocks[i], s.queries);
}

inline void attention_split(const AttentionItem& item, int split, const AttentionPart& part) {
  if (!takes(item)) return cpu::attention_split<VecAvx512>(item, split, part);
  const Scratch s(item.scratch, item.head_dim);
  load_item_queries(item, s);
  const Shapes shapes(kAttentionShapes);
  SplitKernel(item, split, s, part).run();
}

inline void attention(const AttentionItem& item) {
  if (!takes(item)) return cpu::attention<VecAvx512>(item);
  const Scratch s(item.scratch, item.head_dim);
  load_item_queries(item, s);
  const Shapes shapes(kAttentionShapes);
  attend_item<VecAvx512>(item, s.part, s.total,
                         [&](int split) { SplitKernel(item, split, s, s.part).run(); });
}

}  // namespace donar::ops::cpu::amx
