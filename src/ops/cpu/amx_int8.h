// Linear over int8 rows with AMX: groups of 16 rows take tiles, what is left the vectors of AVX-512
// (8 rows are faster with those). Both give the same bits: the integers are exact, and the floats
// see the same operations in the same order.
#pragma once

#include <algorithm>

#include "ops/cpu/amx_block.h"
#include "ops/cpu/amx_tiles.h"
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/linear_kernels.h"
#include "ops/cpu/panel.h"

namespace donar::ops::cpu::amx {

using V = VecAvx512;

inline constexpr int kPanelBlocks = 24;  // 18 KB of L1 at most, beside the rows that stream by

// A group's block of 32 k: [16 rows][32 int8] | scale [16] | scale * sum [16].
inline constexpr int kGroupScales = kRows * 32;
inline constexpr int kGroupBlockBytes = kGroupScales + 2 * kRows * int{sizeof(float)};
static_assert(kGroupBlockBytes <= kRows * kInt8BlockBytes);

// Shapes: 0 to 3 sums, 4 and 5 rows, 6 and 7 weights; with halves a product is 16 k deep.
template <bool kHalves>
constexpr Config int8_shapes() {
  Config config;
  config.set(0, 3, kRows, kRowBytes);
  config.set(4, 5, kRows, kHalves ? 16 : 32);
  config.set(6, 7, kHalves ? 4 : 8, kRowBytes);
  return config;
}

// The totals of one group, in registers while a panel passes.
template <bool kMin, bool kHalves>
class Int8Group {
 public:
  [[gnu::always_inline]] void zero() {
#pragma GCC unroll 16
    for (__m512& total : total_) total = V::zero();
  }
  [[gnu::always_inline]] void load(const float (*totals)[16]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) total_[r] = V::load(totals[r]);
  }
  [[gnu::always_inline]] void store(float (*totals)[16]) const {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) V::store(totals[r], total_[r]);
  }
  // As outputs of t, rows [row, row + 16).
  [[gnu::always_inline]] void store_outputs(const LinearTile& t, int64_t row) {
    if (t.bias != nullptr) {
      const __m512 bias = V::load_n(t.bias, t.outputs);
#pragma GCC unroll 16
      for (__m512& total : total_) total = V::add(total, bias);
    }
    float* y = t.y + row * t.y_stride;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r, y += t.y_stride) V::store_n(y, total_[r], t.outputs);
  }

  // The tiles of a block are multiplied two blocks before they are stored, and stored one before
  // they are scaled: neither waits for the other.
  [[gnu::always_inline]] void add(const std::byte* x, const PanelBlock* w, int64_t blocks,
                                  Ahead& ahead) {
    Dots dots;
    begin<0>(x, w[0]);
    begin<1>(x + kGroupBlockBytes, w[1]);
    for (int64_t b = 2; b < blocks; b += 2, x += 2 * kGroupBlockBytes, w += 2) {
      ahead.ask();
      take<0>(dots);
      begin<0>(x + 2 * kGroupBlockBytes, w[2]);
      if (b > 2) scale<1>(dots, x - kGroupBlockBytes, w[-1]);
      take<1>(dots);
      begin<1>(x + 3 * kGroupBlockBytes, w[3]);
      scale<0>(dots, x, w[0]);
    }
    ahead.ask();
    if (blocks > 2) scale<1>(dots, x - kGroupBlockBytes, w[-1]);
    take<0>(dots);
    take<1>(dots);
    scale<0>(dots, x, w[0]);
    scale<1>(dots, x + kGroupBlockBytes, w[1]);
  }

 private:
  static constexpr int kParts = kHalves ? 2 : 1;

  // Apart from the totals, which stay in registers: tile stores may touch only this.
  struct alignas(64) Dots {
    int32_t of[2][kParts][kRows * 16];
  };

  template <int kSlot>
  [[gnu::always_inline]] static void begin(const std::byte* x, const PanelBlock& w) {
    if constexpr (kHalves) {
      amx::load<4>(x, 32);
      amx::load<6>(w.q[0], 64);
      amx::zero<2 * kSlot>();
      dot_int8<2 * kSlot, 4, 6>();
      amx::load<5>(x + 16, 32);
      amx::load<7>(w.q[4], 64);
      amx::zero<2 * kSlot + 1>();
      dot_int8<2 * kSlot + 1, 5, 7>();
    } else {
      amx::load<4 + kSlot>(x, 32);
      amx::load<6 + kSlot>(w.q[0], 64);
      amx::zero<kSlot>();
      dot_int8<kSlot, 4 + kSlot, 6 + kSlot>();
    }
  }

  template <int kSlot>
  [[gnu::always_inline]] static void take(Dots& dots) {
    amx::store<kParts * kSlot>(dots.of[kSlot][0]);
    if constexpr (kHalves) amx::store<2 * kSlot + 1>(dots.of[kSlot][1]);
  }

  // kExact + dot as a float: conversions and products share the one port that tiles leave to them,
  // integer additions have two.
  [[gnu::always_inline]] static __m512 exact_dot(const int32_t* dot) {
    const __m512i exact = _mm512_castps_si512(V::set1(kExact));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_load_si512(dot), exact));
  }

  template <int kSlot>
  [[gnu::always_inline]] void scale(const Dots& dots, const std::byte* x, const PanelBlock& w) {
    const auto* scales = reinterpret_cast<const float*>(x + kGroupScales);
    const __m512 scale = V::load(w.scale[0]);
    const __m512 shift = V::load(w.shift);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      // (kExact + dot) * scale - kExact * scale, rounded once: what dot * scale is
      __m512 scaled = V::fma(exact_dot(dots.of[kSlot][0] + r * 16), scale, shift);
      if constexpr (kHalves) {
        const __m512 second = V::sub(exact_dot(dots.of[kSlot][1] + r * 16), V::set1(kExact));
        scaled = V::fma(second, V::load(w.scale[1]), scaled);
      }
      total_[r] = V::fma(scaled, V::set1(scales[r]), total_[r]);
      if constexpr (kMin) total_[r] = V::fma(V::load(w.min), V::set1(scales[kRows + r]), total_[r]);
    }
  }

  __m512 total_[kRows];
};

inline constexpr int64_t kStretchBytes = 640 << 10;  // of rows that stay in L2 while tiles pass

// Blocks of a panel: as many for each as can be, since a short one costs more than its share.
template <Format kFormat>
int64_t panel_blocks(int64_t blocks) {
  constexpr int64_t kUnit = has_superblocks(kFormat) ? 8 : 2;
  const int64_t panels = (blocks + kPanelBlocks - 1) / kPanelBlocks;
  return (blocks + panels * kUnit - 1) / (panels * kUnit) * kUnit;
}

// A group of t, the one from `row` on, times a panel of its K.
template <bool kMin, bool kHalves>
[[gnu::noinline]] void multiply_group(const std::byte* x, const PanelBlock* panel, int64_t blocks,
                                      Ahead& ahead, bool first, bool last, float (*totals)[16],
                                      const LinearTile& t, int64_t row) {
  Int8Group<kMin, kHalves> group;
  if (first) {
    group.zero();
  } else {
    group.load(totals);
  }
  group.add(x, panel, blocks, ahead);
  if (last) {
    group.store_outputs(t, row);
  } else {
    group.store(totals);
  }
}

// All rows of t, at most kPassRows and a multiple of 16. K goes in stretches whose rows stay in L2
// while the tiles pass, and those in panels that stay in L1 while the rows pass.
template <Format kFormat>
void multiply_groups(const LinearTile& t, int64_t tiles) {
  const int64_t tile_bytes = rows16::tile_bytes(kFormat, t.k);
  const int64_t blocks = t.k / rows16::kBlock;
  const int64_t most = panel_blocks<kFormat>(blocks);
  const int64_t stretch =
      std::max<int64_t>(kStretchBytes * kRows / (t.rows * kGroupBlockBytes * most), 1) * most;
  const Shapes shapes(int8_shapes<has_halves(kFormat)>());
  alignas(64) PanelBlock panel[kPanelBlocks];
  alignas(64) float totals[kLinearManyTiles * kPassRows][16];
  for (int64_t from = 0; from < blocks; from += stretch) {
    const int64_t to = std::min(from + stretch, blocks);
    const auto next_panel = [&](int64_t tile, int64_t block) {
      if (block == to) block = ++tile < tiles ? from : to;
      if (tile == tiles) {  // the first one's next stretch, or what lies behind
        tile = to < blocks ? 0 : tiles;
        block = to % blocks;
      }
      return tile * tile_bytes + block * tile_bytes / blocks;
    };
    for (int64_t i = 0; i < tiles; ++i) {
      const LinearTile tile = tile_of(t, i, tile_bytes);
      for (int64_t b = from; b < to; b += most) {
        const int64_t depth = std::min(to - b, most);
        Ahead ahead(t.weights + next_panel(i, b + depth), depth * tile_bytes / blocks,
                    t.rows / kRows * (depth / 2));
        expand_panel<V, kFormat, /*kSigned=*/true>(tile.weights, b, depth, /*ahead=*/0, panel);
        for (int64_t row = 0; row < t.rows; row += kRows) {
          multiply_group<has_min(kFormat), has_halves(kFormat)>(
              t.x + row * t.x_row_bytes + b * kGroupBlockBytes, panel, depth, ahead,
              /*first=*/b == 0, /*last=*/b + depth == blocks, totals + i * t.rows + row, tile, row);
        }
      }
    }
  }
}

// `tiles` neighbouring tiles, at most kLinearManyTiles, with `outputs` outputs in all.
template <Format kFormat>
void linear_int8_tiles(const LinearTile& t, int64_t tiles) {
  int64_t row = 0;
  while (t.rows - row >= kRows) {
    const int64_t rows = std::min(kPassRows, (t.rows - row) / kRows * kRows);
    multiply_groups<kFormat>(rows_of(t, row, rows), tiles);
    row += rows;
  }
  if (row == t.rows) return;
  for (int64_t i = 0; i < tiles; ++i) {
    linear_tile<V, kFormat>(
        tile_of(rows_of(t, row, t.rows - row), i, rows16::tile_bytes(kFormat, t.k)));
  }
}

// Rounds 16 rows as a group.
inline void round_group(const float* x, int64_t x_stride, int64_t k, int64_t padded,
                        std::byte* out) {
  static_assert(V::kLanes == kRows);
  for (int64_t at = 0; at < padded; at += 32, out += kGroupBlockBytes) {
    auto* scales = reinterpret_cast<float*>(out + kGroupScales);
    round_blocks<V>(
        kRows, [&](int r, auto& v) { load_block<V>(x + r * x_stride + at, k - at, v); },
        [&](int r, auto& v, float inverse, float scale) {
          Int8BlockMeta meta;
          store_block<V>(v, inverse, scale, /*offset=*/0, /*halves=*/false,
                         reinterpret_cast<int8_t*>(out) + r * 32, meta);
          scales[r] = meta.scale;
          scales[kRows + r] = meta.scaled_sum;
        });
  }
}

inline void round_int8(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                       int offset, bool halves, std::byte* out) {
  const int64_t row_bytes = padded / 32 * kInt8BlockBytes;
  int64_t row = 0;
  for (; rows - row >= kRows; row += kRows)
    round_group(x + row * x_stride, x_stride, k, padded, out + row * row_bytes);
  if (row < rows) {
    cpu::round_int8<V>(x + row * x_stride, x_stride, rows - row, k, padded, offset, halves,
                       out + row * row_bytes);
  }
}

}  // namespace donar::ops::cpu::amx
