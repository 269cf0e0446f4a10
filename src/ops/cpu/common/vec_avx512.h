// The vector type of the AVX-512 kernels (F, BW, VL, DQ, VNNI): 16 lanes; a 64-byte vector of a
// weight tile is one load. The interface is described in vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace donar::ops::cpu {

struct VecAvx512 {
  static constexpr int kLanes = 16;
  static constexpr int kMaxRows = 8;
  static constexpr bool kUnsignedDot = true;
  static constexpr int kKeyVectors = 4;

  using F = __m512;
  using I = __m512i;
  using B = __m512i;

  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void store_n(float* p, F x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }

  static F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static F load_i8(const void* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  // Nearest even, in the low half of each lane; vcvtneps2bf16 would flush denormals.
  static __m512i bf16_bits(F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i lsb = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_srli_epi32(kept, 16);
  }
  static void store_bf16_n(void* p, F x, int n) {
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(bf16_bits(x)));
  }
  static void store_f16_n(void* p, F x, int n) {
    _mm256_mask_storeu_epi16(p, first(n),
                             _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F scale2(F a, F n) { return _mm512_scalef_ps(a, n); }
  static F zero_below(F x, F limit, F y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), y);
  }
  static F keep_range(F x, int index, int begin, int end, F other) {
    const __m512i at =
        _mm512_add_epi32(_mm512_set1_epi32(index),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __mmask16 keep = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(begin)) &
                           _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(end));
    return _mm512_mask_mov_ps(other, keep, x);
  }

  static float reduce_add(F a) { return _mm512_reduce_add_ps(a); }
  static float reduce_max(F a) { return _mm512_reduce_max_ps(a); }

  static void transpose(F (&m)[kLanes]) {
    F t[kLanes];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(m[i], m[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(m[i], m[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
      const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
      m[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
      m[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
      m[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
      m[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(m[i], m[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(m[i], m[i + 4], 0xdd);
      t[i + 8] = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0x88);
      t[i + 12] = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
      m[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
      m[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
      m[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
      m[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
  }

  static I iset1(int32_t x) { return _mm512_set1_epi32(x); }
  static F to_f32(I a) { return _mm512_cvtepi32_ps(a); }
  // The sum of unsigned bytes is one instruction: q + 128, and 16 * 128 less per half.
  static void sum_halves(__m256i bytes, int32_t (&sums)[2]) {
    const __m256i eighths =
        _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    const __m256i pairs = _mm256_add_epi64(eighths, _mm256_srli_si256(eighths, 8));
    sums[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(pairs)) - 16 * 128;
    sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(pairs, 1)) - 16 * 128;
  }
  static void store_block_i8(int8_t* p, const F (&x)[2], int32_t (&sums)[2]) {
    const __m128i low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x[0]));
    const __m256i bytes = _mm256_inserti128_si256(
        _mm256_castsi128_si256(low), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x[1])), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
    sum_halves(bytes, sums);
  }

  static B load_bytes(const void* p) { return _mm512_loadu_si512(p); }
  static B low_nibbles(B a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static B high_nibbles(B a) {
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
  }
  template <int t>
  static B with_high_bits(B low, B high) {
    B moved = high;
    if constexpr (t == 0) moved = _mm512_slli_epi16(high, 4);
    if constexpr (t == 1) moved = _mm512_slli_epi16(high, 2);
    if constexpr (t == 3) moved = _mm512_srli_epi16(high, 2);
    return _mm512_ternarylogic_epi32(low, moved, _mm512_set1_epi8(0x30),
                                     0xf8);  // low | (moved & mask)
  }
  template <int g>
  static B with_fifth_bit(B low, B fifth) {
    B moved = fifth;
    if constexpr (g < 4) moved = _mm512_slli_epi16(fifth, 4 - g);
    if constexpr (g > 4) moved = _mm512_srli_epi16(fifth, g - 4);
    return _mm512_ternarylogic_epi32(low, moved, _mm512_set1_epi8(0x10), 0xf8);
  }
  static F first_byte(B a) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(a, _mm512_set1_epi32(255)));
  }
  static B sub_bytes(B a, int b) {
    return _mm512_sub_epi8(a, _mm512_set1_epi8(static_cast<char>(b)));
  }
  static B next_bytes(B a) { return _mm512_srli_epi32(a, 8); }
  static __m512i broadcast4(const void* x) {
    int32_t word;
    std::memcpy(&word, x, sizeof(word));
    return _mm512_set1_epi32(word);
  }
  static I dot4(I sum, B w, const int8_t* x) { return _mm512_dpbusd_epi32(sum, w, broadcast4(x)); }
  static I dot4_u8(I sum, B w, const int8_t* x) {
    return _mm512_dpbusd_epi32(sum, w, broadcast4(x));
  }
  using N = I;
  static N begin_nibbles(int32_t offset) { return iset1(offset); }
  static N dot4_nibbles(N sum, B w, const int8_t* x) { return dot4(sum, w, x); }
  static I end_nibbles(N sum, int32_t) { return sum; }
  using N5 = I;
  static N5 begin_fives(int32_t offset) { return iset1(offset); }
  template <int g>
  static N5 dot4_fives(N5 sum, B w, const int8_t* x) {
    return dot4(sum, w, x);
  }
  static I end_fives(N5 sum, int32_t) { return sum; }

  static F first_bf16(B w) { return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)); }
  static F second_bf16(B w) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(w, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
  }
  static F first_f16(B w) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w)); }
  static F second_f16(B w) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(w, 16)));
  }
  static B as_bytes(F x) { return _mm512_castps_si512(x); }
  static F round_bf16(F x) { return _mm512_castsi512_ps(_mm512_slli_epi32(bf16_bits(x), 16)); }
};

}  // namespace donar::ops::cpu
