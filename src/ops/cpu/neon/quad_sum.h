// Integer sums of four outputs over 4-byte groups of one input row, for each instruction set:
// multiply-accumulate (any aarch64), sdot, usdot. All give the same integers.
#pragma once

#include "ops/cpu/common/vec_neon.h"
#include "ops/cpu/neon/blocks.h"

namespace donar::ops::cpu::neon {

// Whether bytes stored as q + 128 are multiplied as they are, and the offset taken off by the
// starting value, or turned into signed ones.
template <CpuIsa kIsa, Format kFormat>
constexpr bool kSignedBytes = kFormat == Format::kQ8_0&& kIsa != CpuIsa::kNeonI8mm;

template <CpuIsa kIsa, Format kFormat>
constexpr bool kHasOffset = weight_offset(kFormat) != 0 && !kSignedBytes<kIsa, kFormat>;

template <CpuIsa kIsa, Format kFormat, int kPair>
GroupPair load_weights(const std::byte* block, int quad) {
  GroupPair pair = load_pair<VecNeon<kIsa>, kFormat, kPair>(block, quad);
  if constexpr (kSignedBytes<kIsa, kFormat>) {
    pair.even = veorq_u8(pair.even, vdupq_n_u8(128));
    pair.odd = veorq_u8(pair.odd, vdupq_n_u8(128));
  }
  return pair;
}

template <CpuIsa kIsa, Format kFormat>
struct QuadSum;

// Without dot products: the four products of an output stay apart in 16 bits and are added at the
// end of a section. 8 groups * 31 * 127 (four and five bits) fit, 4 * 63 * 127 (Q6_K has sections
// of four), and 2 * 128 * 127 of Q8_0, whose pairs are added in 32 bits.
template <Format kFormat>
struct QuadSum<CpuIsa::kNeon, kFormat> {
  static constexpr bool kWide = kFormat == Format::kQ8_0;
  int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);  // outputs 0 and 1; 2 and 3
  int32x4_t wide_low = vdupq_n_s32(0), wide_high = vdupq_n_s32(0);
  int32_t offset = 0;

  void begin(int32_t start) { offset = start; }

  template <int kLane>
  void add(GroupPair w, int8x16_t x) {
    const int8x16_t even = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), kLane));
    const int8x16_t odd = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), kLane + 1));
    const int8x16_t w_even = vreinterpretq_s8_u8(w.even), w_odd = vreinterpretq_s8_u8(w.odd);
    low = vmlal_s8(low, vget_low_s8(w_even), vget_low_s8(even));
    high = vmlal_high_s8(high, w_even, even);
    low = vmlal_s8(low, vget_low_s8(w_odd), vget_low_s8(odd));
    high = vmlal_high_s8(high, w_odd, odd);
    if constexpr (kWide) {
      wide_low = vpadalq_s16(wide_low, low);
      wide_high = vpadalq_s16(wide_high, high);
      low = high = vdupq_n_s16(0);
    }
  }
  int32x4_t total() const {
    const int32x4_t sum =
        kWide ? vpaddq_s32(wide_low, wide_high) : vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
    return vaddq_s32(sum, vdupq_n_s32(offset));
  }
};

#if defined(__ARM_FEATURE_DOTPROD)
template <Format kFormat>
struct QuadSum<CpuIsa::kNeonDot, kFormat> {
  int32x4_t sum = vdupq_n_s32(0);
  void begin(int32_t start) { sum = vdupq_n_s32(start); }

  template <int kLane>
  void add(GroupPair w, int8x16_t x) {
    sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w.even), x, kLane);
    sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w.odd), x, kLane + 1);
  }
  int32x4_t total() const { return sum; }
};
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
template <Format kFormat>
struct QuadSum<CpuIsa::kNeonI8mm, kFormat> {
  int32x4_t sum = vdupq_n_s32(0);
  void begin(int32_t start) { sum = vdupq_n_s32(start); }

  template <int kLane>
  void add(GroupPair w, int8x16_t x) {
    sum = vusdotq_laneq_s32(sum, w.even, x, kLane);
    sum = vusdotq_laneq_s32(sum, w.odd, x, kLane + 1);
  }
  int32x4_t total() const { return sum; }
};
#endif

}  // namespace donar::ops::cpu::neon
