// The rows of an item of attention as AMX takes them: blocks of 16, their queries as tiles, and
// where in an item's scratch they and the rest lie.
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
inline constexpr int kSplitChunks = kAttentionSplit / kAttentionChunk;
inline constexpr int kMostHeadDim = 1024;  // a bit of SplitKernel::woven_ for each step

// Whether AMX takes the item; the same for every row that the kernel sees of one cache.
inline bool takes(const AttentionItem& item) {
  return item.dtype == DType::kBF16 && item.head_dim % kStep == 0 && item.head_dim <= kMostHeadDim;
}

constexpr Config attention_shapes() {
  Config config;
  config.set(0, kTiles - 1, kRows, kRowBytes);
  return config;
}
inline constexpr Config kAttentionShapes = attention_shapes();

// What amx::attention carves out of an item's scratch (attention_scratch_bytes).
struct Scratch {
  std::byte* queries;  // [pairs][steps] tiles: row p of a tile is values 2p, 2p + 1 of 16 rows
  std::byte* values;   // [chunk, or 1][steps][2] tiles
  std::byte* weights;  // [chunk][blocks at a time] tiles
  float* scores;       // [blocks at a time][256][16]
  float* sums;         // [2] tiles
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
    weights = take(int64_t{kBlockRows} * kSplitChunks * kTileBytes);
    scores = floats(2 * kAttentionSplit * kBlockRows);
    sums = floats(2 * kRows * kBlockRows);
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

inline void load_item_queries(const AttentionItem& item, const Scratch& s) {
  RowBlock blocks[kMostBlocks];
  const int count = row_blocks(item, blocks);
  for (int i = 0; i < count; ++i) load_queries(item, blocks[i], s.queries);
}

}  // namespace donar::ops::cpu::amx
