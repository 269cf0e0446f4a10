// Linear over int8 rows with AMX: groups of 16 and 8 rows take tiles, what is left the vectors of
// AVX-512. Both give the same bits: the integers are exact, and the floats see the same operations
// in the same order.
#pragma once

#include <algorithm>

#include "ops/cpu/amx_block.h"
#include "ops/cpu/amx_tiles.h"
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/linear_kernels.h"
#include "ops/cpu/panel.h"

namespace donar::ops::cpu::amx {

using V = VecAvx512;

inline constexpr int kPanelBlocks = 32;  // 24 KB: half of L1, beside the rows that stream by

// A group's block of 32 k: [R rows][32 int8] | scale [R] | scale * sum [R].
template <int R>
inline constexpr int kRowsBlockBytes = R*(32 + 2 * int{sizeof(float)});
static_assert(kRowsBlockBytes<1> <= kInt8BlockBytes);

// Shapes: 0 to 3 sums, 4 and 5 rows, 6 and 7 weights; with halves a product is 16 k deep.
template <int R, bool kHalves>
constexpr Config int8_shapes() {
  Config config;
  config.set(0, 3, R, kRowBytes);
  config.set(4, 5, R, kHalves ? 16 : 32);
  config.set(6, 7, kHalves ? 4 : 8, kRowBytes);
  return config;
}

// One group times a panel, on top of `totals`. The tiles of a block are multiplied two blocks
// before they are stored, and stored one before they are scaled: neither waits for the other.
template <int R, bool kMin, bool kHalves>
class Int8Group {
 public:
  [[gnu::noinline]] static void multiply(const std::byte* x, const PanelBlock* w, int64_t blocks,
                                         float (*totals)[16]) {
    Int8Group group(totals);
    Dots dots;
    begin<0>(x, w[0]);
    begin<1>(x + kStep, w[1]);
    for (int64_t b = 2; b < blocks; b += 2, x += 2 * kStep, w += 2) {
      take<0>(dots);
      begin<0>(x + 2 * kStep, w[2]);
      if (b > 2) group.template scale<1>(dots, x - kStep, w[-1]);
      take<1>(dots);
      begin<1>(x + 3 * kStep, w[3]);
      group.template scale<0>(dots, x, w[0]);
    }
    if (blocks > 2) group.template scale<1>(dots, x - kStep, w[-1]);
    take<0>(dots);
    take<1>(dots);
    group.template scale<0>(dots, x, w[0]);
    group.template scale<1>(dots, x + kStep, w[1]);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) V::store(totals[r], group.total_[r]);
  }

 private:
  static constexpr int kStep = kRowsBlockBytes<R>;
  static constexpr int kParts = kHalves ? 2 : 1;

  // Apart from the totals, which stay in registers: tile stores may touch only this.
  struct alignas(64) Dots {
    int32_t of[2][kParts][R * 16];
  };

  [[gnu::always_inline]] explicit Int8Group(const float (*totals)[16]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) total_[r] = V::load(totals[r]);
  }

  template <int kSlot>
  [[gnu::always_inline]] static void begin(const std::byte* x, const PanelBlock& w) {
    if constexpr (kHalves) {
      load<4>(x, 32);
      load<6>(w.q[0], 64);
      zero<2 * kSlot>();
      dot_int8<2 * kSlot, 4, 6>();
      load<5>(x + 16, 32);
      load<7>(w.q[4], 64);
      zero<2 * kSlot + 1>();
      dot_int8<2 * kSlot + 1, 5, 7>();
    } else {
      load<4 + kSlot>(x, 32);
      load<6 + kSlot>(w.q[0], 64);
      zero<kSlot>();
      dot_int8<kSlot, 4 + kSlot, 6 + kSlot>();
    }
  }

  template <int kSlot>
  [[gnu::always_inline]] static void take(Dots& dots) {
    store<kParts * kSlot>(dots.of[kSlot][0]);
    if constexpr (kHalves) store<2 * kSlot + 1>(dots.of[kSlot][1]);
  }

  // kExact + dot as a float: conversions and products share the one port that tiles leave to them,
  // integer additions have two.
  [[gnu::always_inline]] static __m512 exact_dot(const int32_t* dot) {
    const __m512i exact = _mm512_castps_si512(V::set1(kExact));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_load_si512(dot), exact));
  }

  template <int kSlot>
  [[gnu::always_inline]] void scale(const Dots& dots, const std::byte* x, const PanelBlock& w) {
    const auto* scales = reinterpret_cast<const float*>(x + R * 32);
    const __m512 scale = V::load(w.scale[0]);
    const __m512 shift = V::load(w.shift);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      // (kExact + dot) * scale - kExact * scale, rounded once: what dot * scale is
      __m512 scaled = V::fma(exact_dot(dots.of[kSlot][0] + r * 16), scale, shift);
      if constexpr (kHalves) {
        const __m512 second = V::sub(exact_dot(dots.of[kSlot][1] + r * 16), V::set1(kExact));
        scaled = V::fma(second, V::load(w.scale[1]), scaled);
      }
      total_[r] = V::fma(scaled, V::set1(scales[r]), total_[r]);
      if constexpr (kMin) total_[r] = V::fma(V::load(w.min), V::set1(scales[R + r]), total_[r]);
    }
  }

  __m512 total_[R];
};

inline constexpr int64_t kStretchBytes = 640 << 10;  // of rows that stay in L2 while tiles pass

template <int R>
void store_rows(const LinearTile& t, int64_t row, const float (*totals)[16]) {
  for (int r = 0; r < R; ++r) {
    __m512 total = V::load(totals[r]);
    if (t.bias != nullptr) total = V::add(total, V::load_n(t.bias, t.outputs));
    V::store_n(t.y + (row + r) * t.y_stride, total, t.outputs);
  }
}

// All rows of t, at most kPassRows and a multiple of R, in groups of R. K goes in stretches whose
// rows stay in L2 while the tiles pass, and those in panels that stay in L1 while the rows pass.
template <Format kFormat, int R>
void multiply_groups(const LinearTile& t, int64_t tiles, float (*totals)[16]) {
  const int64_t tile_bytes = rows16::tile_bytes(kFormat, t.k);
  const int64_t blocks = t.k / rows16::kBlock;
  const int64_t stretch =
      std::max<int64_t>(kStretchBytes / (t.rows * kRowsBlockBytes<1> * kPanelBlocks), 1) *
      kPanelBlocks;
  const Shapes shapes(int8_shapes<R, has_halves(kFormat)>());
  alignas(64) PanelBlock panel[kPanelBlocks];
  for (int64_t r = 0; r < tiles * t.rows; ++r) V::store(totals[r], V::zero());
  for (int64_t from = 0; from < blocks; from += stretch) {
    const int64_t to = std::min(from + stretch, blocks);
    const auto next_panel = [&](int64_t tile, int64_t block) {
      if (block == to) block = ++tile < tiles ? from : to;
      if (tile == tiles) tile = to < blocks ? 0 : tiles, block = to % blocks;
      return tile * tile_bytes + block * tile_bytes / blocks;
    };
    for (int64_t i = 0; i < tiles; ++i) {
      const LinearTile tile = tile_of(t, i, tile_bytes);
      float(*mine)[16] = totals + i * t.rows;
      for (int64_t b = from; b < to; b += kPanelBlocks) {
        const int64_t depth = std::min<int64_t>(to - b, kPanelBlocks);
        Ahead ahead(t.weights + next_panel(i, b + depth), depth * tile_bytes / blocks, t.rows / R);
        expand_panel<V, kFormat, /*kSigned=*/true>(tile.weights, b, depth, /*ahead=*/0, panel);
        for (int64_t row = 0; row < t.rows; row += R) {
          ahead.ask();
          Int8Group<R, has_min(kFormat), has_halves(kFormat)>::multiply(
              t.x + row * t.x_row_bytes + b * kRowsBlockBytes<R>, panel, depth, mine + row);
          if (b + depth == blocks) store_rows<R>(tile, row, mine + row);
        }
      }
    }
  }
}

// `tiles` neighbouring tiles, at most kLinearManyTiles, with `outputs` outputs in all.
template <Format kFormat>
void linear_int8_tiles(const LinearTile& t, int64_t tiles) {
  alignas(64) float totals[kLinearManyTiles * kPassRows][16];
  int64_t row = 0;
  while (t.rows - row >= 16) {
    const int64_t rows = std::min(kPassRows, (t.rows - row) / 16 * 16);
    multiply_groups<kFormat, 16>(rows_of(t, row, rows), tiles, totals);
    row += rows;
  }
  if (t.rows - row >= 8) {
    multiply_groups<kFormat, 8>(rows_of(t, row, 8), tiles, totals);
    row += 8;
  }
  if (row == t.rows) return;
  for (int64_t i = 0; i < tiles; ++i) {
    linear_tile<V, kFormat>(
        tile_of(rows_of(t, row, t.rows - row), i, rows16::tile_bytes(kFormat, t.k)));
  }
}

template <Format kFormat>
void linear_int8(const LinearTile& t) {
  if (t.rows < 8) return linear_tile<V, kFormat>(t);
  linear_int8_tiles<kFormat>(t, 1);
}

// Rounds R rows as a group.
template <int R>
void round_group(const float* x, int64_t x_stride, int64_t k, int64_t padded, std::byte* out) {
  for (int64_t b = 0; b < padded; b += 32, out += kRowsBlockBytes<R>) {
    const int n = static_cast<int>(k - b < 32 ? (k > b ? k - b : 0) : 32);
    auto* scales = reinterpret_cast<float*>(out + R * 32);
    for (int r = 0; r < R; ++r) {
      Int8BlockMeta meta;
      round_block<V>(x + r * x_stride + b, n, /*offset=*/0, /*halves=*/false,
                     reinterpret_cast<int8_t*>(out) + r * 32, meta);
      scales[r] = meta.scale;
      scales[R + r] = meta.scaled_sum;
    }
  }
}

inline void round_int8(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                       int offset, bool halves, std::byte* out) {
  const int64_t row_bytes = padded / 32 * kInt8BlockBytes;
  int64_t row = 0;
  for (; rows - row >= 16; row += 16)
    round_group<16>(x + row * x_stride, x_stride, k, padded, out + row * row_bytes);
  for (; rows - row >= 8; row += 8)
    round_group<8>(x + row * x_stride, x_stride, k, padded, out + row * row_bytes);
  if (row < rows) {
    cpu::round_int8<V>(x + row * x_stride, x_stride, rows - row, k, padded, offset, halves,
                       out + row * row_bytes);
  }
}

}  // namespace donar::ops::cpu::amx
