// Linear over quantized weights and many rows: a stretch of a tile is unpacked once to the bytes
// that vpdpbusd takes and stays in L1 while the rows pass. The sums are those of the kernels for
// few rows, term by term, so a row's bits do not depend on which of them ran.
#pragma once

#include <bit>
#include <cstring>

#include "ops/cpu/linear_tile.h"

namespace donar::ops::cpu {

using quant::Format;

inline constexpr int kPanelTiles = 2;
inline constexpr int kPanelBlocks = 8;          // 6 KB a tile
inline constexpr int64_t kPanelPassRows = 256;  // their totals wait in L1 for the next panel
inline constexpr int kPanelOutputs = kPanelTiles * rows16::kTileRows;

// One block of 32 values of k, 16 outputs.
struct alignas(64) PanelBlock {
  uint8_t q[8][rows16::kVectorBytes];  // per four k [16 rows][4 k], unsigned
  float scale[2][16];                  // Q6_K: of each 16 values; else the first is of all 32
  float shift[16];                     // -kExact * scale[0]
  float min[16];                       // formats with a minimum
};

constexpr bool has_min(Format format) { return weight_offset(format) == 0; }
constexpr bool has_halves(Format format) { return format == Format::kQ6_K; }
constexpr bool has_superblocks(Format format) {
  return format == Format::kQ4_K || format == Format::kQ5_K || format == Format::kQ6_K;
}
constexpr bool has_fifth_bits(Format format) {
  return format == Format::kQ5_0 || format == Format::kQ5_1 || format == Format::kQ5_K;
}

template <class V>
void put_bytes(PanelBlock& to, int group, int half, typename V::B bytes) {
  std::memcpy(to.q[group] + half * 4, &bytes, sizeof(bytes));
}
// The scales are products of a 16-bit float and at most eight bits: times kExact they stay exact.
template <class V>
void put_scale(PanelBlock& to, int half, typename V::F scale) {
  V::store(to.scale[0] + half, scale);
  V::store(to.shift + half, V::mul(scale, V::set1(-kExact)));
}

template <class V, int j>
void expand_fives(const std::byte* bytes, typename V::B fifth, int half, PanelBlock& to) {
  const typename V::B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
  put_bytes<V>(to, 2 * j, half, V::template with_fifth_bit<2 * j>(V::low_nibbles(both), fifth));
  put_bytes<V>(to, 2 * j + 1, half,
               V::template with_fifth_bit<2 * j + 1>(V::high_nibbles(both), fifth));
}

// The four- or five-bit values of a block.
template <class V, Format kFormat>
void expand_block(const std::byte* bytes, int half, PanelBlock& to) {
  if constexpr (has_fifth_bits(kFormat)) {
    const typename V::B fifth = V::load_bytes(bytes + rows16::kNibbleBlockBytes);
    expand_fives<V, 0>(bytes, fifth, half, to);
    expand_fives<V, 1>(bytes, fifth, half, to);
    expand_fives<V, 2>(bytes, fifth, half, to);
    expand_fives<V, 3>(bytes, fifth, half, to);
  } else {
    for (int j = 0; j < 4; ++j) {
      const typename V::B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
      put_bytes<V>(to, 2 * j, half, V::low_nibbles(both));
      put_bytes<V>(to, 2 * j + 1, half, V::high_nibbles(both));
    }
  }
}

template <class V, Format kFormat>
void expand_pair(const std::byte* pair, int half, PanelBlock* to) {
  const std::byte* bytes = pair + (has_min(kFormat) ? 2 : 1) * rows16::kScaleBytes + half * 4;
  for (int b = 0; b < 2; ++b, ++to) {
    const std::byte* scale = pair + (b * rows16::kTileRows + half) * 2;
    put_scale<V>(*to, half, V::load_f16(scale));
    if constexpr (has_min(kFormat))
      V::store(to->min + half, V::load_f16(scale + rows16::kScaleBytes));
    if constexpr (kFormat == Format::kQ8_0) {
      for (int g = 0; g < 8; ++g, bytes += rows16::kVectorBytes)
        put_bytes<V>(*to, g, half, V::load_bytes(bytes));
    } else {
      expand_block<V, kFormat>(bytes, half, *to);
      bytes += has_fifth_bits(kFormat) ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
    }
  }
}

// Q4_K and Q5_K: scales and minimums as linear_q4_k.h reads them.
template <class V, Format kFormat>
void expand_super_min(const std::byte* super, int half, PanelBlock* to) {
  using F = typename V::F;
  using B = typename V::B;
  constexpr int kBlockBytes =
      has_fifth_bits(kFormat) ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
  const F d = V::load_f16(super + half * 2);
  const F minus_dmin = V::sub(V::zero(), V::load_f16(super + 32 + half * 2));
  const std::byte* words = super + 64 + half * 4;
  const B first = V::load_bytes(words);
  const B second = V::load_bytes(words + rows16::kVectorBytes);
  const B third = V::load_bytes(words + 2 * rows16::kVectorBytes);
  B scales = V::template with_high_bits<2>(V::low_nibbles(first), first);
  B mins = V::template with_high_bits<2>(V::low_nibbles(second), second);
  const std::byte* bytes = super + rows16::kKHeaderBytes + half * 4;
  for (int b = 0; b < 8; ++b, bytes += kBlockBytes, ++to) {
    if (b == 4) {
      scales = V::template with_high_bits<3>(V::low_nibbles(third), first);
      mins = V::template with_high_bits<3>(V::high_nibbles(third), second);
    }
    put_scale<V>(*to, half, V::mul(d, V::first_byte(scales)));
    V::store(to->min + half, V::mul(minus_dmin, V::first_byte(mins)));
    scales = V::next_bytes(scales);
    mins = V::next_bytes(mins);
    expand_block<V, kFormat>(bytes, half, *to);
  }
}

template <class V>
void expand_super_q6_k(const std::byte* super, int half, PanelBlock* to) {
  using B = typename V::B;
  const typename V::F d = V::load_f16(super + half * 2);
  const std::byte* scales = super + 64 + half;
  const std::byte* bytes = super + rows16::kQ6KHeaderBytes + half * 4;
  for (int b = 0; b < 8; ++b, bytes += rows16::kQ6KBlockBytes, ++to) {
    for (int s = 0; s < 2; ++s, scales += rows16::kTileRows) {
      V::store(to->scale[s] + half, V::mul(d, V::load_i8(scales)));
      const B high = V::load_bytes(bytes + (4 + s) * rows16::kVectorBytes);
      const B q01 = V::load_bytes(bytes + (2 * s) * rows16::kVectorBytes);
      const B q23 = V::load_bytes(bytes + (2 * s + 1) * rows16::kVectorBytes);
      put_bytes<V>(*to, 4 * s, half, V::template with_high_bits<0>(V::low_nibbles(q01), high));
      put_bytes<V>(*to, 4 * s + 1, half, V::template with_high_bits<1>(V::high_nibbles(q01), high));
      put_bytes<V>(*to, 4 * s + 2, half, V::template with_high_bits<2>(V::low_nibbles(q23), high));
      put_bytes<V>(*to, 4 * s + 3, half, V::template with_high_bits<3>(V::high_nibbles(q23), high));
    }
  }
}

// Blocks [first, first + count) of a tile: whole pairs or superblocks. Asks for the bytes of the
// next panel, which come while this one's rows are computed.
template <class V, Format kFormat>
void expand_panel(const std::byte* tile, int64_t first, int64_t count, PanelBlock* to) {
  constexpr int64_t kUnit = has_superblocks(kFormat) ? 8 : 2;
  const int64_t unit_bytes = rows16::tile_bytes(kFormat, kUnit * rows16::kBlock);
  const std::byte* at = tile + first / kUnit * unit_bytes;
  for (int64_t b = 0; b < count; b += kUnit, at += unit_bytes, to += kUnit) {
    const std::byte* ahead = at + kPanelBlocks / kUnit * unit_bytes;
    for (int64_t i = 0; i < unit_bytes; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    for (int half = 0; half < rows16::kTileRows; half += V::kLanes) {
      if constexpr (kFormat == Format::kQ6_K) {
        expand_super_q6_k<V>(at, half, to);
      } else if constexpr (has_superblocks(kFormat)) {
        expand_super_min<V, kFormat>(at, half, to);
      } else {
        expand_pair<V, kFormat>(at, half, to);
      }
    }
  }
}

// A vector's width of a panel.
struct PanelColumn {
  const PanelBlock* w;
  int half;
  int output;  // where its totals are in a row of them
};

template <class V, Format kFormat, int R, int C>
[[gnu::always_inline]] inline void add_blocks(const PanelColumn (&columns)[C],
                                              const Int8Block<V, R>& x, int64_t b,
                                              typename V::F (&total)[C][R]) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int kParts = has_halves(kFormat) ? 2 : 1;
  constexpr int kGroups = 8 / kParts;
  F scaled[C][R];
#pragma GCC unroll 2
  for (int part = 0; part < kParts; ++part) {
    I sum[C][R];
    for (int r = 0; r < R; ++r) {
      // The magic number and what unsigned weights count too much; for halves the latter alone.
      const int32_t begin = has_halves(kFormat) ? x.meta(r).offset[part]
                            : has_min(kFormat)  ? std::bit_cast<int32_t>(kExact)
                                                : x.meta(r).offset[1];
      for (int c = 0; c < C; ++c) sum[c][r] = V::iset1(begin);
    }
#pragma GCC unroll 8
    for (int j = part * kGroups; j < (part + 1) * kGroups; ++j) {
      typename V::B q[C];
      for (int c = 0; c < C; ++c) q[c] = V::load_bytes(columns[c].w[b].q[j] + columns[c].half * 4);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) sum[c][r] = V::dot4(sum[c][r], q[c], x.q(r) + 4 * j);
      }
    }
    for (int c = 0; c < C; ++c) {
      const F scale = V::load(columns[c].w[b].scale[part] + columns[c].half);
      const F shift = V::load(columns[c].w[b].shift + columns[c].half);
      for (int r = 0; r < R; ++r) {
        if constexpr (!has_halves(kFormat)) {
          // (kExact + dot) * scale - kExact * scale, rounded once: what dot * scale is.
          scaled[c][r] = V::fma(std::bit_cast<F>(sum[c][r]), scale, shift);
        } else if (part == 0) {
          scaled[c][r] = V::mul(V::to_f32(sum[c][r]), scale);
        } else {
          scaled[c][r] = V::fma(V::to_f32(sum[c][r]), scale, scaled[c][r]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const F scale = V::set1(x.meta(r).scale);
    for (int c = 0; c < C; ++c) total[c][r] = V::fma(scaled[c][r], scale, total[c][r]);
  }
  if constexpr (has_min(kFormat)) {
    for (int c = 0; c < C; ++c) {
      const F min = V::load(columns[c].w[b].min + columns[c].half);
      for (int r = 0; r < R; ++r)
        total[c][r] = V::fma(min, V::set1(x.meta(r).scaled_sum), total[c][r]);
    }
  }
}

// R rows of a group over the blocks of a panel, onto their totals.
template <class V, Format kFormat, int R, int C>
void panel_group(const PanelColumn (&columns)[C], int64_t blocks, const std::byte* at,
                 float (*totals)[kPanelOutputs]) {
  typename V::F total[C][R];
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r) total[c][r] = V::load(totals[r] + columns[c].output);
  }
  Int8Block<V, R> x{at};
  for (int64_t b = 0; b < blocks; ++b, x.at += R * kInt8BlockBytes)
    add_blocks<V, kFormat, R, C>(columns, x, b, total);
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r) V::store(totals[r] + columns[c].output, total[c][r]);
  }
}

// The lines that a group of rows will be written to, long before they are.
inline void ask_for_rows(const LinearTile& t, int64_t row, int count) {
  for (int64_t r = row; r < row + count; ++r) {
    for (int i = 0; i < t.outputs; i += 16) __builtin_prefetch(t.y + r * t.y_stride + i, 1, 2);
    __builtin_prefetch(t.y + r * t.y_stride + t.outputs - 1, 1, 2);
  }
}

// Two columns at a time, so that their chains of dot products fill the ports and a value of x is
// read once for both: the two halves of a tile, or with vectors of a whole tile two tiles.
template <class V, Format kFormat, int R>
void panel_rows(const PanelBlock (*panels)[kPanelBlocks], int tiles, int64_t blocks,
                const std::byte* x, float (*totals)[kPanelOutputs]) {
  if constexpr (V::kLanes < rows16::kTileRows) {
    for (int i = 0; i < tiles; ++i) {
      panel_group<V, kFormat, R, 2>({{panels[i], 0, i * rows16::kTileRows},
                                     {panels[i], V::kLanes, i * rows16::kTileRows + V::kLanes}},
                                    blocks, x, totals);
    }
  } else if (tiles == 2) {
    panel_group<V, kFormat, R, 2>({{panels[0], 0, 0}, {panels[1], 0, rows16::kTileRows}}, blocks, x,
                                  totals);
  } else {
    panel_group<V, kFormat, R, 1>({{panels[0], 0, 0}}, blocks, x, totals);
  }
}

template <class V>
void store_totals(const LinearTile& t, int64_t row, const float* totals) {
  for (int i = 0; i < t.outputs; i += V::kLanes) {
    typename V::F total[1] = {V::load(totals + i)};
    store_tile<V, 1>(t, i, total, row);
  }
}

// Rows [begin, begin + rows) of one or two neighbouring tiles.
template <class V, Format kFormat>
void linear_panels(const LinearTile& t, int tiles, int64_t begin, int64_t rows) {
  alignas(64) PanelBlock panels[kPanelTiles][kPanelBlocks];
  alignas(64) float totals[kPanelPassRows][kPanelOutputs];
  const int64_t blocks = t.k / rows16::kBlock;
  const int64_t tile_bytes = rows16::tile_bytes(kFormat, t.k);
  std::memset(totals, 0, static_cast<size_t>(rows) * sizeof(totals[0]));
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t count = blocks - first < kPanelBlocks ? blocks - first : kPanelBlocks;
    for (int i = 0; i < tiles; ++i)
      expand_panel<V, kFormat>(t.weights + i * tile_bytes, first, count, panels[i]);
    for (int64_t row = 0; row < rows;) {
      const int group = group_rows<V>(rows - row);
      if (first == 0) ask_for_rows(t, begin + row, group);
      const std::byte* x = t.x + (begin + row) * t.x_row_bytes + first * group * kInt8BlockBytes;
      switch (group) {
        case 8:
          if constexpr (V::kMaxRows >= 8)
            panel_rows<V, kFormat, 8>(panels, tiles, count, x, totals + row);
          break;
        case 4:
          panel_rows<V, kFormat, 4>(panels, tiles, count, x, totals + row);
          break;
        case 2:
          panel_rows<V, kFormat, 2>(panels, tiles, count, x, totals + row);
          break;
        default:
          panel_rows<V, kFormat, 1>(panels, tiles, count, x, totals + row);
          break;
      }
      row += group;
    }
  }
  for (int64_t r = 0; r < rows; ++r) store_totals<V>(t, begin + r, totals[r]);
}

template <class V, Format kFormat>
void linear_many(const LinearTile& first, int64_t tiles) {
  const int64_t tile_bytes = rows16::tile_bytes(kFormat, first.k);
  for (int64_t row = 0; row < first.rows; row += kPanelPassRows) {
    const int64_t rows = first.rows - row < kPanelPassRows ? first.rows - row : kPanelPassRows;
    for (int64_t i = 0; i < tiles; i += kPanelTiles) {
      const auto output = static_cast<int>(i * rows16::kTileRows);
      const int left = first.outputs - output;
      LinearTile t = first;
      t.weights += i * tile_bytes;
      t.y += output;
      t.outputs = left < kPanelOutputs ? left : kPanelOutputs;
      if (t.bias != nullptr) t.bias += output;
      linear_panels<V, kFormat>(t, tiles - i < kPanelTiles ? 1 : kPanelTiles, row, rows);
    }
  }
}

// For Vecs whose dot products take unsigned bytes.
template <class V, Format... kFormats>
constexpr void set_linear_many(Kernels& table) {
  static_assert(V::kUnsignedDot);
  ((table.linear_many[static_cast<size_t>(kFormats)] = linear_many<V, kFormats>), ...);
}
template <class V>
constexpr Kernels with_panels(Kernels table) {
  set_linear_many<V, Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0,
                  Format::kQ4_K, Format::kQ5_K, Format::kQ6_K>(table);
  return table;
}

}  // namespace donar::ops::cpu
