// The ceilings' inner loops with AVX-512; elsewhere they are not called.
#include "bench/ops/ceilings.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace donar::bench {
namespace {

constexpr int kChains = 16;  // more than latency times throughput of any of these

template <class T>
void keep(T& value) {
  asm volatile("" : "+v"(value));
}

}  // namespace

double avx512_int8_loop(long iterations) {
  __m512i sum[kChains];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  for (long i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] = _mm512_dpbusd_epi32(sum[c], a, b);
      keep(sum[c]);
    }
  }
  return 2.0 * 64 * kChains;
}

double avx512_bf16_loop(long iterations) {
  __m512 sum[kChains];
  for (auto& s : sum) s = _mm512_setzero_ps();
  const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f803f80));
  for (long i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] = _mm512_dpbf16_ps(sum[c], a, a);
      keep(sum[c]);
    }
  }
  return 2.0 * 32 * kChains;
}

double avx512_f32_loop(long iterations) {
  __m512 sum[kChains];
  for (auto& s : sum) s = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(0.5f);
  for (long i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sum[c] = _mm512_fmadd_ps(a, a, sum[c]);
      keep(sum[c]);
    }
  }
  return 2.0 * 16 * kChains;
}

long avx512_read_loop(const void* data, long bytes) {
  const auto* at = static_cast<const __m512i*>(data);
  __m512i sum[4] = {};
  for (long i = 0; i + 4 <= bytes / 64; i += 4) {
    _mm_prefetch(reinterpret_cast<const char*>(at + i + 64), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + i + 65), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + i + 66), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + i + 67), _MM_HINT_T0);
    for (int c = 0; c < 4; ++c) sum[c] = _mm512_add_epi64(sum[c], _mm512_loadu_si512(at + i + c));
  }
  return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3])));
}

}  // namespace donar::bench

#else

namespace donar::bench {
double avx512_int8_loop(long) { return 0; }
double avx512_bf16_loop(long) { return 0; }
double avx512_f32_loop(long) { return 0; }
long avx512_read_loop(const void*, long) { return 0; }
}  // namespace donar::bench

#endif
