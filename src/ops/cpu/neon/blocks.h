// The quantized formats of layout kRows16 as NEON registers: 16 bytes are 4 outputs x 4 values of
// k, a quarter of a 64-byte vector ("quad": outputs 4 * quad to 4 * quad + 3). Everything here is a
// template over V, so that no two instruction sets share a function.
#pragma once

#include <arm_neon.h>

#include <cstring>
#include <utility>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu::neon {

using quant::Format;

// f(0) to f(kCount - 1), the number being a constant: sums in arrays then stay in registers, and
// lanes can be named.
template <int kCount, class F>
[[gnu::always_inline]] inline void repeat(F f) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

inline constexpr int kQuads = rows16::kTileRows / 4;

constexpr int num_sections(Format f) { return has_halves(f) ? 2 : 1; }  // scales of a block
constexpr int unit_blocks(Format f) { return has_superblocks(f) ? 8 : 2; }
constexpr int block_bytes(Format f) {
  if (f == Format::kQ8_0) return rows16::kByteBlockBytes;
  if (f == Format::kQ6_K) return rows16::kQ6KBlockBytes;
  return has_fifth_bits(f) ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
}
constexpr int header_bytes(Format f) {
  if (f == Format::kQ6_K) return rows16::kQ6KHeaderBytes;
  if (has_superblocks(f)) return rows16::kKHeaderBytes;
  return rows16::kScaleBytes * (has_min(f) ? 2 : 1);
}
// Blocks lie in units with a header before them: pairs or superblocks.
constexpr int unit_bytes(Format f) { return header_bytes(f) + unit_blocks(f) * block_bytes(f); }

static_assert(unit_bytes(Format::kQ4_0) == rows16::kQ4_0PairBytes);
static_assert(unit_bytes(Format::kQ4_1) == rows16::kQ4_1PairBytes);
static_assert(unit_bytes(Format::kQ5_0) == rows16::kQ5_0PairBytes);
static_assert(unit_bytes(Format::kQ5_1) == rows16::kQ5_1PairBytes);
static_assert(unit_bytes(Format::kQ8_0) == rows16::kQ8_0PairBytes);
static_assert(unit_bytes(Format::kQ4_K) == rows16::kQ4KSuperBytes);
static_assert(unit_bytes(Format::kQ5_K) == rows16::kQ5KSuperBytes);
static_assert(unit_bytes(Format::kQ6_K) == rows16::kQ6KSuperBytes);

template <class V>
uint8x16_t load_bytes(const std::byte* p) {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(p));
}
template <class V>
float32x4_t load_halves(const std::byte* p) {
  float16x4_t halves;
  std::memcpy(&halves, p, sizeof(halves));
  return vcvt_f32_f16(halves);
}

// `bits` moved by kShift (left if positive) where `mask` is set, else `low`.
template <class V, int kShift>
uint8x16_t insert_bits(uint8x16_t low, uint8x16_t bits, uint8_t mask) {
  if constexpr (kShift > 0) bits = vshlq_n_u8(bits, kShift);
  if constexpr (kShift < 0) bits = vshrq_n_u8(bits, -kShift);
  return vbslq_u8(vdupq_n_u8(mask), bits, low);
}

// Two neighbouring groups of 4 k of four outputs, as unsigned bytes: the value plus the format's
// offset.
struct GroupPair {
  uint8x16_t even, odd;
};

// Groups 2 * kPair and 2 * kPair + 1 of a block.
template <class V, Format kFormat, int kPair>
GroupPair load_pair(const std::byte* block, int quad) {
  const std::byte* at = block + quad * 16;
  if constexpr (kFormat == Format::kQ8_0) {
    return {load_bytes<V>(at + 2 * kPair * rows16::kVectorBytes),
            load_bytes<V>(at + (2 * kPair + 1) * rows16::kVectorBytes)};
  }
  const uint8x16_t both = load_bytes<V>(at + kPair * rows16::kVectorBytes);
  GroupPair pair{vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8(both, 4)};
  if constexpr (has_fifth_bits(kFormat)) {
    const uint8x16_t fifth = load_bytes<V>(at + 4 * rows16::kVectorBytes);
    pair.even = insert_bits<V, 4 - 2 * kPair>(pair.even, fifth, 0x10);
    pair.odd = insert_bits<V, 3 - 2 * kPair>(pair.odd, fifth, 0x10);
  }
  if constexpr (kFormat == Format::kQ6_K) {
    const uint8x16_t high = load_bytes<V>(at + (4 + kPair / 2) * rows16::kVectorBytes);
    pair.even = insert_bits<V, (kPair % 2 == 0 ? 4 : 0)>(pair.even, high, 0x30);
    pair.odd = insert_bits<V, (kPair % 2 == 0 ? 2 : -2)>(pair.odd, high, 0x30);
  }
  return pair;
}

// Four bytes of `bytes`, the first at kFirst and kStep apart, as signed numbers: each is put on top
// of its word, which then is read as one with 24 fractional bits.
template <class V, int kFirst, int kStep>
float32x4_t signed_bytes(uint8x16_t bytes) {
  constexpr uint8_t kNone = 255;
  constexpr uint8_t k0 = kFirst, k1 = kFirst + kStep, k2 = k1 + kStep, k3 = k2 + kStep;
  const uint8x16_t at = {kNone, kNone, kNone, k0, kNone, kNone, kNone, k1,
                         kNone, kNone, kNone, k2, kNone, kNone, kNone, k3};
  return vcvtq_n_f32_s32(vreinterpretq_s32_u8(vqtbl1q_u8(bytes, at)), 24);
}

// Scales and minimums of the blocks of one unit. Superblocks of Q4_K and Q5_K unpack theirs once.
template <class V, Format kFormat>
struct UnitScales {
  const std::byte* unit;
  explicit UnitScales(const std::byte* at) : unit(at) {}

  float32x4_t scale(int block, int section, int quad) const {
    if constexpr (kFormat == Format::kQ6_K) {
      uint32_t four;
      std::memcpy(&four, unit + 64 + (2 * block + section) * rows16::kTileRows + 4 * quad, 4);
      const uint8x16_t bytes = vreinterpretq_u8_u32(vsetq_lane_u32(four, vdupq_n_u32(0), 0));
      return vmulq_f32(load_halves<V>(unit + quad * 8), signed_bytes<V, 0, 1>(bytes));
    }
    return load_halves<V>(unit + (block * rows16::kTileRows + 4 * quad) * 2);
  }
  float32x4_t min(int block, int quad) const {
    return load_halves<V>(unit + rows16::kScaleBytes + (block * rows16::kTileRows + 4 * quad) * 2);
  }
};

template <class V, Format kFormat>
requires(kFormat == Format::kQ4_K || kFormat == Format::kQ5_K) struct UnitScales<V, kFormat> {
  float scales[8][rows16::kTileRows];
  float mins[8][rows16::kTileRows];

  explicit UnitScales(const std::byte* unit) {
    for (int quad = 0; quad < kQuads; ++quad) {
      const float32x4_t d = load_halves<V>(unit + quad * 8);
      const float32x4_t minus_dmin = vnegq_f32(load_halves<V>(unit + 32 + quad * 8));
      const std::byte* words = unit + 64 + quad * 16;
      const uint8x16_t first = load_bytes<V>(words);
      const uint8x16_t second = load_bytes<V>(words + rows16::kVectorBytes);
      const uint8x16_t third = load_bytes<V>(words + 2 * rows16::kVectorBytes);
      const uint8x16_t low_six = vdupq_n_u8(63);
      // Blocks 4 to 7 have their low bits in `third` and the upper two on top of blocks 0 to 3.
      unpack(scales, 0, quad, vandq_u8(first, low_six), d);
      unpack(mins, 0, quad, vandq_u8(second, low_six), minus_dmin);
      const uint8x16_t low = vandq_u8(third, vdupq_n_u8(15));
      unpack(scales, 4, quad, insert_bits<V, -2>(low, first, 0x30), d);
      unpack(mins, 4, quad, insert_bits<V, -2>(vshrq_n_u8(third, 4), second, 0x30), minus_dmin);
    }
  }
  float32x4_t scale(int block, int, int quad) const { return vld1q_f32(scales[block] + 4 * quad); }
  float32x4_t min(int block, int quad) const { return vld1q_f32(mins[block] + 4 * quad); }

 private:
  static void unpack(float (&to)[8][rows16::kTileRows], int first, int quad, uint8x16_t bytes,
                     float32x4_t factor) {
    float* at = to[first] + 4 * quad;
    vst1q_f32(at, vmulq_f32(factor, signed_bytes<V, 0, 4>(bytes)));
    vst1q_f32(at + rows16::kTileRows, vmulq_f32(factor, signed_bytes<V, 1, 4>(bytes)));
    vst1q_f32(at + 2 * rows16::kTileRows, vmulq_f32(factor, signed_bytes<V, 2, 4>(bytes)));
    vst1q_f32(at + 3 * rows16::kTileRows, vmulq_f32(factor, signed_bytes<V, 3, 4>(bytes)));
  }
};

}  // namespace donar::ops::cpu::neon
