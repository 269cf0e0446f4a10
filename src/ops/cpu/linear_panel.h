// Linear over quantized weights and many rows: a stretch of a tile is unpacked once to the bytes
// that the dot products take and stays in L1 while the rows pass. The sums are those of the kernels
// for few rows, term by term, so a row's bits do not depend on which of them ran.
#pragma once

#include <bit>
#include <cstring>

#include "ops/cpu/linear_tile.h"
#include "ops/cpu/panel.h"

namespace donar::ops::cpu {

inline constexpr int kPanelTiles = 2;
inline constexpr int kPanelBlocks = 16;         // 12 KB a tile
inline constexpr int64_t kPanelPassRows = 128;  // their totals wait in L1 for the next panel
inline constexpr int kPanelOutputs = kPanelTiles * rows16::kTileRows;

// A vector's width of a panel.
struct PanelColumn {
  const PanelBlock* w;
  int half;
  int output;  // where its totals are in a row of them
};

// Whether the dots of a format count its weights as they are, without an offset to take off.
template <class V>
constexpr bool weights_are_exact(Format format) {
  return has_min(format) || (format == Format::kQ8_0 && !V::kUnsignedDot);
}

// How the dots of a format's blocks are added up; `start` is what a sum begins with.
template <class V, Format kFormat>
struct PanelDot {
  static constexpr bool kBytes = kFormat == Format::kQ8_0 || has_halves(kFormat);

  static auto begin(int32_t start) {
    if constexpr (kBytes) {
      return V::iset1(start);
    } else if constexpr (has_fifth_bits(kFormat)) {
      return V::begin_fives(start);
    } else {
      return V::begin_nibbles(start);
    }
  }
  using Sum = decltype(begin(0));

  // Group j of four k.
  template <int j>
  static Sum add(Sum sum, typename V::B q, const int8_t* x) {
    if constexpr (kFormat == Format::kQ8_0) {
      return V::dot4_u8(sum, q, x);
    } else if constexpr (has_halves(kFormat)) {
      return V::dot4(sum, q, x);
    } else if constexpr (has_fifth_bits(kFormat)) {
      return V::template dot4_fives<j>(sum, q, x);
    } else {
      return V::dot4_nibbles(sum, q, x);
    }
  }
  static typename V::I end(Sum sum, int32_t start) {
    if constexpr (kBytes) {
      return sum;
    } else if constexpr (has_fifth_bits(kFormat)) {
      return V::end_fives(sum, start);
    } else {
      return V::end_nibbles(sum, start);
    }
  }

  // Groups [j, kEnd) of R rows times C columns.
  template <int j, int kEnd, int R, int C>
  [[gnu::always_inline]] static void add_groups(const PanelColumn (&columns)[C],
                                                const Int8Block<V, R>& x, int64_t b,
                                                Sum (&sum)[C][R]) {
    typename V::B q[C];
    for (int c = 0; c < C; ++c) q[c] = V::load_bytes(columns[c].w[b].q[j] + columns[c].half * 4);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) sum[c][r] = add<j>(sum[c][r], q[c], x.q(r) + 4 * j);
    }
    if constexpr (j + 1 < kEnd) add_groups<j + 1, kEnd>(columns, x, b, sum);
  }
};

// The dots of one scale, a block's or the first or second half's of it, onto `scaled`.
template <class V, Format kFormat, int kPart, int R, int C>
[[gnu::always_inline]] inline void add_part(const PanelColumn (&columns)[C],
                                            const Int8Block<V, R>& x, int64_t b,
                                            typename V::F (&scaled)[C][R]) {
  using F = typename V::F;
  using Dot = PanelDot<V, kFormat>;
  constexpr int kGroups = has_halves(kFormat) ? 4 : 8;
  int32_t start[R];
  typename Dot::Sum sum[C][R];
  for (int r = 0; r < R; ++r) {
    // The magic number and what unsigned weights count too much; for halves the latter alone.
    start[r] = has_halves(kFormat)             ? x.meta(r).offset[kPart]
               : weights_are_exact<V>(kFormat) ? std::bit_cast<int32_t>(kExact)
                                               : x.meta(r).offset[1];
    for (int c = 0; c < C; ++c) sum[c][r] = Dot::begin(start[r]);
  }
  Dot::template add_groups<kPart * kGroups, (kPart + 1) * kGroups>(columns, x, b, sum);
  for (int c = 0; c < C; ++c) {
    const F scale = V::load(columns[c].w[b].scale[kPart] + columns[c].half);
    const F shift = V::load(columns[c].w[b].shift + columns[c].half);
    for (int r = 0; r < R; ++r) {
      const typename V::I dot = Dot::end(sum[c][r], start[r]);
      if constexpr (!has_halves(kFormat)) {
        // (kExact + dot) * scale - kExact * scale, rounded once: what dot * scale is.
        scaled[c][r] = V::fma(std::bit_cast<F>(dot), scale, shift);
      } else if constexpr (kPart == 0) {
        scaled[c][r] = V::mul(V::to_f32(dot), scale);
      } else {
        scaled[c][r] = V::fma(V::to_f32(dot), scale, scaled[c][r]);
      }
    }
  }
}

template <class V, Format kFormat, int R, int C>
[[gnu::always_inline]] inline void add_blocks(const PanelColumn (&columns)[C],
                                              const Int8Block<V, R>& x, int64_t b,
                                              typename V::F (&total)[C][R]) {
  using F = typename V::F;
  F scaled[C][R];
  add_part<V, kFormat, 0>(columns, x, b, scaled);
  if constexpr (has_halves(kFormat)) add_part<V, kFormat, 1>(columns, x, b, scaled);
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

// Where a sum takes two of 16 registers.
template <class V, Format kFormat>
constexpr bool has_one_column() {
  using Sum = typename PanelDot<V, kFormat>::Sum;
  return V::kMaxRows < 8 && sizeof(Sum) > sizeof(typename V::I);
}

// Two columns at a time, so that their chains of dot products fill the ports and a value of x is
// read once for both: the two halves of a tile, or with vectors of a whole tile two tiles.
template <class V, Format kFormat, int R>
void panel_rows(const PanelBlock (*panels)[kPanelBlocks], int tiles, int64_t blocks,
                const std::byte* x, float (*totals)[kPanelOutputs]) {
  if constexpr (V::kLanes < rows16::kTileRows && has_one_column<V, kFormat>()) {
    for (int i = 0; i < tiles; ++i) {
      for (int half = 0; half < rows16::kTileRows; half += V::kLanes) {
        panel_group<V, kFormat, R, 1>({{panels[i], half, i * rows16::kTileRows + half}}, blocks, x,
                                      totals);
      }
    }
  } else if constexpr (V::kLanes < rows16::kTileRows) {
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
      expand_panel<V, kFormat, /*kSigned=*/false>(t.weights + i * tile_bytes, first, count,
                                                  kPanelBlocks, panels[i]);
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

template <class V, Format... kFormats>
constexpr void set_linear_many(Kernels& table) {
  ((table.linear_many[static_cast<size_t>(kFormats)] = linear_many<V, kFormats>), ...);
}
template <class V>
constexpr Kernels with_panels(Kernels table) {
  set_linear_many<V, Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0,
                  Format::kQ4_K, Format::kQ5_K, Format::kQ6_K>(table);
  return table;
}

}  // namespace donar::ops::cpu
