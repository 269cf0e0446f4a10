// The vector type of the AVX2 kernels (with FMA and F16C): 8 lanes, so a weight tile is done in two
// halves. The interface is described in vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace donar::ops::cpu {

struct VecAvx2 {
  static constexpr int kLanes = 8;
  static constexpr int kMaxRows = 4;
  static constexpr bool kUnsignedDot = false;
  static constexpr int kKeyVectors = 2;

  using F = __m256;
  using I = __m256i;
  using B = __m256i;

  static __m256i lanes() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static __m256i first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes()); }

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load_n(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void store_n(float* p, F x, int n) { _mm256_maskstore_ps(p, first(n), x); }

  static F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static F load_i8(const void* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  static void store_16_n(void* p, __m128i bits, int n) {
    if (n >= kLanes) {
      _mm_storeu_si128(static_cast<__m128i*>(p), bits);
      return;
    }
    alignas(16) uint16_t all[kLanes];
    _mm_store_si128(reinterpret_cast<__m128i*>(all), bits);
    std::memcpy(p, all, static_cast<size_t>(n) * 2);
  }
  // Nearest even, in the low half of each lane.
  static __m256i bf16_bits(F x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i lsb = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i kept =
        _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
    return _mm256_srli_epi32(kept, 16);
  }
  static void store_bf16_n(void* p, F x, int n) {
    const __m256i high = bf16_bits(x);
    store_16_n(p, _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)),
               n);
  }
  static void store_f16_n(void* p, F x, int n) {
    store_16_n(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
  }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F scale2(F a, F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static F zero_below(F x, F limit, F y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GE_OQ), y);
  }
  static F keep_range(F x, int index, int begin, int end, F other) {
    const __m256i at = _mm256_add_epi32(_mm256_set1_epi32(index), lanes());
    const __m256i keep = _mm256_and_si256(_mm256_cmpgt_epi32(at, _mm256_set1_epi32(begin - 1)),
                                          _mm256_cmpgt_epi32(_mm256_set1_epi32(end), at));
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(keep));
  }

  static float reduce_add(F a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float reduce_max(F a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  static void transpose(F (&m)[kLanes]) {
    F t[kLanes];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      m[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      m[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      m[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      m[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x20);
      t[i + 4] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) m[i] = t[i];
  }

  static I iset1(int32_t x) { return _mm256_set1_epi32(x); }
  static F to_f32(I a) { return _mm256_cvtepi32_ps(a); }
  // The sum of unsigned bytes is one instruction: q + 128, and 16 * 128 less per half.
  static void sum_halves(__m256i bytes, int32_t (&sums)[2]) {
    const __m256i eighths =
        _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    const __m256i pairs = _mm256_add_epi64(eighths, _mm256_srli_si256(eighths, 8));
    sums[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(pairs)) - 16 * 128;
    sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(pairs, 1)) - 16 * 128;
  }
  static void store_block_i8(int8_t* p, const F (&x)[4], int32_t (&sums)[2]) {
    const __m256i a = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
    const __m256i b = _mm256_packs_epi32(_mm256_cvtps_epi32(x[2]), _mm256_cvtps_epi32(x[3]));
    // The packs work in 128-bit halves: fours of bytes come out as 0 2 4 6 | 1 3 5 7.
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
    sum_halves(bytes, sums);
  }

  static B load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static B low_nibbles(B a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static B high_nibbles(B a) {
    return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15));
  }
  template <int t>
  static B with_high_bits(B low, B high) {
    B moved = high;
    if constexpr (t == 0) moved = _mm256_slli_epi16(high, 4);
    if constexpr (t == 1) moved = _mm256_slli_epi16(high, 2);
    if constexpr (t == 3) moved = _mm256_srli_epi16(high, 2);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(0x30)));
  }
  template <int g>
  static B with_fifth_bit(B low, B fifth) {
    B moved = fifth;
    if constexpr (g < 4) moved = _mm256_slli_epi16(fifth, 4 - g);
    if constexpr (g > 4) moved = _mm256_srli_epi16(fifth, g - 4);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(0x10)));
  }
  static F first_byte(B a) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(a, _mm256_set1_epi32(255)));
  }
  static B next_bytes(B a) { return _mm256_srli_epi32(a, 8); }
  static __m256i broadcast4(const void* x) {
    int32_t word;
    std::memcpy(&word, x, sizeof(word));
    return _mm256_set1_epi32(word);
  }
  // The sum as it stands. GCC takes integer additions apart and puts them together at the end of a
  // block, when its products have long left the registers.
  static __m256i kept(__m256i sum) {
    asm("" : "+x"(sum));
    return sum;
  }
  // Unsigned times signed pairs fit 16 bits: 2 * 63 * 127 here, 2 * 128 * 127 in dot4_u8.
  static I dot4(I sum, B w, const int8_t* x) {
    const __m256i pairs = _mm256_maddubs_epi16(w, broadcast4(x));
    return kept(_mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
  }
  static I dot4_u8(I sum, B w, const int8_t* x) {
    const __m256i q = _mm256_xor_si256(w, _mm256_set1_epi8(-128));  // back to signed
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(broadcast4(x), q));
    return kept(_mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
  }
  // Sixteen-bit sums: 8 groups * 2 * 15 * 127 fit.
  using N = __m256i;
  static N begin_nibbles(int32_t) { return _mm256_setzero_si256(); }
  static N dot4_nibbles(N sum, B w, const int8_t* x) {
    return kept(_mm256_add_epi16(sum, _mm256_maddubs_epi16(w, broadcast4(x))));
  }
  static I end_nibbles(N sum, int32_t offset) {
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)),
                            _mm256_set1_epi32(offset));
  }
  // Sixteen-bit sums of half a block: 4 groups * 2 * 31 * 127 fit.
  struct N5 {
    __m256i half[2];
  };
  static N5 begin_fives(int32_t) { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
  template <int g>
  static N5 dot4_fives(N5 sum, B w, const int8_t* x) {
    sum.half[g / 4] =
        kept(_mm256_add_epi16(sum.half[g / 4], _mm256_maddubs_epi16(w, broadcast4(x))));
    return sum;
  }
  static I end_fives(N5 sum, int32_t offset) {
    const __m256i ones = _mm256_set1_epi16(1);
    return _mm256_add_epi32(_mm256_add_epi32(_mm256_madd_epi16(sum.half[0], ones),
                                             _mm256_madd_epi16(sum.half[1], ones)),
                            _mm256_set1_epi32(offset));
  }

  static F first_bf16(B w) { return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16)); }
  static F second_bf16(B w) {
    return _mm256_castsi256_ps(
        _mm256_and_si256(w, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u))));
  }
  static F low_words_f16(__m256i w) {
    const __m256i low = _mm256_and_si256(w, _mm256_set1_epi32(0xffff));
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
  }
  static F first_f16(B w) { return low_words_f16(w); }
  static F second_f16(B w) { return low_words_f16(_mm256_srli_epi32(w, 16)); }
  static B as_bytes(F x) { return _mm256_castps_si256(x); }
  static F round_bf16(F x) { return _mm256_castsi256_ps(_mm256_slli_epi32(bf16_bits(x), 16)); }
};

}  // namespace donar::ops::cpu
