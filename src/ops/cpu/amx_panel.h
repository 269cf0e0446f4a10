// Weights of any block format as the int8 tiles of AMX take them: a stretch of K of one tile of 16
// outputs, expanded once for many rows. Expanded values are signed, so that no offset is left over.
#pragma once

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu::amx {

using V = VecAvx512;
using quant::Format;

// 1.5 * 2^23: an integer below 2^22 added to the bits of this makes the float kMagic + integer.
inline constexpr float kMagic = 12582912.0f;

// 32 values of k for 16 outputs.
struct alignas(64) PanelBlock {
  int8_t q[8][64];     // [groups of 4 k][16 outputs][4 k]
  float scale[2][16];  // Q6_K: of each 16 values; else only the first
  float shift[16];     // -kMagic * scale[0]: exact, since a scale has at most 19 significant bits
  float min[16];       // of the formats that have one
};
inline constexpr int kPanelBlocks = 32;  // 24 KB: half of L1, beside the rows that stream by

constexpr bool has_min(Format format) {
  return format == Format::kQ4_1 || format == Format::kQ5_1 || format == Format::kQ4_K ||
         format == Format::kQ5_K;
}
constexpr bool has_halves(Format format) { return format == Format::kQ6_K; }

inline void put(PanelBlock& block, int group, __m512i q, int offset) {
  _mm512_store_si512(block.q[group],
                     _mm512_sub_epi8(q, _mm512_set1_epi8(static_cast<char>(offset))));
}
inline void put_scale(PanelBlock& block, __m512 scale) {
  _mm512_store_ps(block.scale[0], scale);
  _mm512_store_ps(block.shift, _mm512_mul_ps(scale, _mm512_set1_ps(-kMagic)));
}

inline void expand_nibbles(const std::byte* from, int offset, PanelBlock& block) {
  for (int j = 0; j < 4; ++j) {
    const __m512i both = V::load_bytes(from + j * rows16::kVectorBytes);
    put(block, 2 * j, V::low_nibbles(both), offset);
    put(block, 2 * j + 1, V::high_nibbles(both), offset);
  }
}

template <int j = 0>
void expand_fives(const std::byte* from, int offset, PanelBlock& block) {
  const __m512i fifth = V::load_bytes(from + rows16::kNibbleBlockBytes);
  const __m512i both = V::load_bytes(from + j * rows16::kVectorBytes);
  put(block, 2 * j, V::with_fifth_bit<2 * j>(V::low_nibbles(both), fifth), offset);
  put(block, 2 * j + 1, V::with_fifth_bit<2 * j + 1>(V::high_nibbles(both), fifth), offset);
  if constexpr (j < 3) expand_fives<j + 1>(from, offset, block);
}

inline void expand_sixes(const std::byte* from, int offset, PanelBlock& block) {
  for (int s = 0; s < 2; ++s) {
    const __m512i high = V::load_bytes(from + (4 + s) * rows16::kVectorBytes);
    const __m512i q01 = V::load_bytes(from + 2 * s * rows16::kVectorBytes);
    const __m512i q23 = V::load_bytes(from + (2 * s + 1) * rows16::kVectorBytes);
    put(block, 4 * s, V::with_high_bits<0>(V::low_nibbles(q01), high), offset);
    put(block, 4 * s + 1, V::with_high_bits<1>(V::high_nibbles(q01), high), offset);
    put(block, 4 * s + 2, V::with_high_bits<2>(V::low_nibbles(q23), high), offset);
    put(block, 4 * s + 3, V::with_high_bits<3>(V::high_nibbles(q23), high), offset);
  }
}

inline void expand_bytes(const std::byte* from, int offset, PanelBlock& block) {
  for (int g = 0; g < 8; ++g) put(block, g, V::load_bytes(from + g * rows16::kVectorBytes), offset);
}

// Formats whose scales stand in front of each pair of blocks.
template <Format kFormat>
void expand_pair(const std::byte* pair, PanelBlock* to) {
  constexpr bool kMin = has_min(kFormat);
  constexpr bool kFives = kFormat == Format::kQ5_0 || kFormat == Format::kQ5_1;
  constexpr int kHeader = (kMin ? 2 : 1) * rows16::kScaleBytes;
  for (int b = 0; b < 2; ++b, ++to) {
    const int scale = b * rows16::kTileRows * 2;
    put_scale(*to, V::load_f16(pair + scale));
    if constexpr (kMin) V::store(to->min, V::load_f16(pair + rows16::kScaleBytes + scale));
    if constexpr (kFormat == Format::kQ8_0) {
      expand_bytes(pair + kHeader + b * rows16::kByteBlockBytes, weight_offset(kFormat), *to);
    } else if constexpr (kFives) {
      expand_fives(pair + kHeader + b * rows16::kFiveBitBlockBytes, weight_offset(kFormat), *to);
    } else {
      expand_nibbles(pair + kHeader + b * rows16::kNibbleBlockBytes, weight_offset(kFormat), *to);
    }
  }
}

template <bool kFiveBits>
void expand_super_k(const std::byte* super, PanelBlock* to) {
  constexpr int kBlockBytes = kFiveBits ? rows16::kFiveBitBlockBytes : rows16::kNibbleBlockBytes;
  const __m512 d = V::load_f16(super);
  const __m512 minus_dmin = V::sub(V::zero(), V::load_f16(super + 32));
  const std::byte* words = super + 64;
  const __m512i first = V::load_bytes(words);
  const __m512i second = V::load_bytes(words + rows16::kVectorBytes);
  const __m512i third = V::load_bytes(words + 2 * rows16::kVectorBytes);
  __m512i scales = V::with_high_bits<2>(V::low_nibbles(first), first);
  __m512i mins = V::with_high_bits<2>(V::low_nibbles(second), second);
  const std::byte* bytes = super + rows16::kKHeaderBytes;
  for (int b = 0; b < 8; ++b, bytes += kBlockBytes, ++to) {
    if (b == 4) {
      scales = V::with_high_bits<3>(V::low_nibbles(third), first);
      mins = V::with_high_bits<3>(V::high_nibbles(third), second);
    }
    put_scale(*to, V::mul(d, V::first_byte(scales)));
    V::store(to->min, V::mul(minus_dmin, V::first_byte(mins)));
    scales = V::next_bytes(scales);
    mins = V::next_bytes(mins);
    if constexpr (kFiveBits) {
      expand_fives(bytes, 0, *to);
    } else {
      expand_nibbles(bytes, 0, *to);
    }
  }
}

inline void expand_super_q6_k(const std::byte* super, PanelBlock* to) {
  const __m512 d = V::load_f16(super);
  const std::byte* scales = super + 64;
  const std::byte* bytes = super + rows16::kQ6KHeaderBytes;
  for (int b = 0; b < 8; ++b, bytes += rows16::kQ6KBlockBytes, scales += 32, ++to) {
    put_scale(*to, V::mul(d, V::load_i8(scales)));
    V::store(to->scale[1], V::mul(d, V::load_i8(scales + rows16::kTileRows)));
    expand_sixes(bytes, weight_offset(Format::kQ6_K), *to);
  }
}

// Blocks [first, first + count) of the tile; both are multiples of the format's pair or superblock.
// Asks for the bytes that the next panel will read, whatever its rows still compute.
template <Format kFormat>
void expand(const std::byte* tile, int64_t first, int64_t count, PanelBlock* to) {
  constexpr bool kSuper =
      kFormat == Format::kQ4_K || kFormat == Format::kQ5_K || kFormat == Format::kQ6_K;
  constexpr int64_t kUnit = kSuper ? 8 : 2;
  const int64_t unit_bytes = rows16::tile_bytes(kFormat, kUnit * rows16::kBlock);
  const std::byte* at = tile + first / kUnit * unit_bytes;
  for (int64_t b = 0; b < count; b += kUnit, at += unit_bytes, to += kUnit) {
    const std::byte* ahead = at + kPanelBlocks / kUnit * unit_bytes;
    for (int64_t i = 0; i < unit_bytes; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    if constexpr (kFormat == Format::kQ6_K) {
      expand_super_q6_k(at, to);
    } else if constexpr (kSuper) {
      expand_super_k<kFormat == Format::kQ5_K>(at, to);
    } else {
      expand_pair<kFormat>(at, to);
    }
  }
}

}  // namespace donar::ops::cpu::amx
