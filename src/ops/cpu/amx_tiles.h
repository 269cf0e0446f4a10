// The tile registers of AMX, by number. Assembly, since the compilers' intrinsics are macros that
// take no template argument. A tile in flight costs the vector units half of their products and
// conversions (Sapphire Rapids, measured: vfmadd, vmul and vcvtdq2ps only run on port 0; additions
// and integer operations run on both).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace donar::ops::cpu::amx {

inline constexpr int kTiles = 8;
inline constexpr int kRows = 16;      // of a tile at most
inline constexpr int kRowBytes = 64;  // of a tile's row at most

// Shapes of the eight tiles; what the instruction reads.
struct alignas(64) Config {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  std::array<uint8_t, 14> reserved = {};
  std::array<uint16_t, 16> row_bytes = {};
  std::array<uint8_t, 16> rows = {};

  constexpr void set(int first, int last, int tile_rows, int tile_row_bytes) {
    for (int tile = first; tile <= last; ++tile) {
      rows[static_cast<size_t>(tile)] = static_cast<uint8_t>(tile_rows);
      row_bytes[static_cast<size_t>(tile)] = static_cast<uint16_t>(tile_row_bytes);
    }
  }
};
static_assert(sizeof(Config) == 64);

// Tiles of one shape while it lives. They belong to the thread, which gives them back: the kernel
// then has nothing of them to save.
class Shapes {
 public:
  explicit Shapes(const Config& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
  ~Shapes() { asm volatile("tilerelease"); }
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;
};

template <int kTile>
[[gnu::always_inline]] inline void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store(void* to) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(int64_t{kRowBytes})
               : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// sum[i][j] += x[i][4k..] * w[k][4j..] over int8, exact
template <int kSum, int kX, int kW>
[[gnu::always_inline]] inline void dot_int8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kX), "i"(kW));
}
// sum[i][j] += the sum of even plus the sum of odd products over the tile's k, each of them fused
// and from zero; denormals are zeros
template <int kSum, int kX, int kW>
[[gnu::always_inline]] inline void dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kX), "i"(kW));
}

}  // namespace donar::ops::cpu::amx
