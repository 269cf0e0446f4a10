// Weights of any block format unpacked for many rows: a stretch of K of one tile of 16 outputs, as
// dot products of vectors (unsigned bytes) or the int8 tiles of AMX (signed ones) take it.
#pragma once

#include <cstring>

#include "ops/cpu/k_scales.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

using quant::Format;

// One block of 32 values of k, 16 outputs.
struct alignas(64) PanelBlock {
  uint8_t q[8][rows16::kVectorBytes];  // per four k [16 rows][4 k]; signed: without the offset
  float scale[2][16];                  // Q6_K: of each 16 values; else the first is of all 32
  float shift[16];                     // -kExact * scale[0]
  float min[16];                       // formats with a minimum
};

// Unpacks the rows of a vector, the first of which is `half`.
template <class V, Format kFormat, bool kSigned>
class PanelExpander {
 public:
  static void pair(const std::byte* pair, int half, PanelBlock* to) {
    const std::byte* bytes = pair + (has_min(kFormat) ? 2 : 1) * rows16::kScaleBytes + half * 4;
    for (int b = 0; b < 2; ++b, ++to) {
      const std::byte* scale = pair + (b * rows16::kTileRows + half) * 2;
      put_scale(*to, half, V::load_f16(scale));
      if constexpr (has_min(kFormat))
        V::store(to->min + half, V::load_f16(scale + rows16::kScaleBytes));
      if constexpr (kFormat == Format::kQ8_0) {
        for (int g = 0; g < 8; ++g, bytes += rows16::kVectorBytes)
          put(*to, g, half, V::load_bytes(bytes));
      } else {
        low_bits(bytes, half, *to);
        bytes += kBlockBytes;
      }
    }
  }

  // Q4_K and Q5_K.
  static void super_min(const std::byte* super, int half, PanelBlock* to) {
    KScales<V> scales(super, half);
    const std::byte* bytes = super + rows16::kKHeaderBytes + half * 4;
    for (int b = 0; b < 8; ++b, bytes += kBlockBytes, ++to) {
      typename V::F scale, min;
      scales.next(b, scale, min);
      put_scale(*to, half, scale);
      V::store(to->min + half, min);
      low_bits(bytes, half, *to);
    }
  }

  static void super_q6_k(const std::byte* super, int half, PanelBlock* to) {
    const typename V::F d = V::load_f16(super + half * 2);
    const std::byte* scales = super + 64 + half;
    const std::byte* bytes = super + rows16::kQ6KHeaderBytes + half * 4;
    for (int b = 0; b < 8; ++b, bytes += rows16::kQ6KBlockBytes, scales += 32, ++to) {
      put_scale(*to, half, V::mul(d, V::load_i8(scales)));
      V::store(to->scale[1] + half, V::mul(d, V::load_i8(scales + rows16::kTileRows)));
      for (int s = 0; s < 2; ++s) {
        const B high = V::load_bytes(bytes + (4 + s) * rows16::kVectorBytes);
        const B q01 = V::load_bytes(bytes + (2 * s) * rows16::kVectorBytes);
        const B q23 = V::load_bytes(bytes + (2 * s + 1) * rows16::kVectorBytes);
        put(*to, 4 * s, half, V::template with_high_bits<0>(V::low_nibbles(q01), high));
        put(*to, 4 * s + 1, half, V::template with_high_bits<1>(V::high_nibbles(q01), high));
        put(*to, 4 * s + 2, half, V::template with_high_bits<2>(V::low_nibbles(q23), high));
        put(*to, 4 * s + 3, half, V::template with_high_bits<3>(V::high_nibbles(q23), high));
      }
    }
  }

 private:
  using B = typename V::B;
  static constexpr int kBlockBytes =
      has_fifth_bits(kFormat) ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;

  static void put(PanelBlock& to, int group, int half, B bytes) {
    if constexpr (kSigned) bytes = V::sub_bytes(bytes, weight_offset(kFormat));
    std::memcpy(to.q[group] + half * 4, &bytes, sizeof(bytes));
  }
  // The scales are products of a 16-bit float and at most eight bits: times kExact they stay exact.
  static void put_scale(PanelBlock& to, int half, typename V::F scale) {
    V::store(to.scale[0] + half, scale);
    V::store(to.shift + half, V::mul(scale, V::set1(-kExact)));
  }

  // The four- or five-bit values of a block.
  static void low_bits(const std::byte* bytes, int half, PanelBlock& to) {
    if constexpr (has_fifth_bits(kFormat)) {
      fives(bytes, V::load_bytes(bytes + rows16::kNibbleBlockBytes), half, to);
    } else {
      for (int j = 0; j < 4; ++j) {
        const B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
        put(to, 2 * j, half, V::low_nibbles(both));
        put(to, 2 * j + 1, half, V::high_nibbles(both));
      }
    }
  }
  template <int j = 0>
  static void fives(const std::byte* bytes, B fifth, int half, PanelBlock& to) {
    const B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
    put(to, 2 * j, half, V::template with_fifth_bit<2 * j>(V::low_nibbles(both), fifth));
    put(to, 2 * j + 1, half, V::template with_fifth_bit<2 * j + 1>(V::high_nibbles(both), fifth));
    if constexpr (j < 3) fives<j + 1>(bytes, fifth, half, to);
  }
};

// Blocks [first, first + count) of a tile: whole pairs or superblocks. Asks for the bytes of the
// next panel, `ahead` blocks on if not 0, which come while this one's rows are computed.
template <class V, Format kFormat, bool kSigned>
void expand_panel(const std::byte* tile, int64_t first, int64_t count, int64_t ahead,
                  PanelBlock* to) {
  using Expander = PanelExpander<V, kFormat, kSigned>;
  constexpr int64_t kUnit = has_superblocks(kFormat) ? 8 : 2;
  const int64_t unit_bytes = rows16::tile_bytes(kFormat, kUnit * rows16::kBlock);
  const std::byte* at = tile + first / kUnit * unit_bytes;
  for (int64_t b = 0; b < count; b += kUnit, at += unit_bytes, to += kUnit) {
    if (ahead > 0) {
      const std::byte* next = at + ahead / kUnit * unit_bytes;
      for (int64_t i = 0; i < unit_bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
    }
    for (int half = 0; half < rows16::kTileRows; half += V::kLanes) {
      if constexpr (kFormat == Format::kQ6_K) {
        Expander::super_q6_k(at, half, to);
      } else if constexpr (has_superblocks(kFormat)) {
        Expander::super_min(at, half, to);
      } else {
        Expander::pair(at, half, to);
      }
    }
  }
}

}  // namespace donar::ops::cpu
