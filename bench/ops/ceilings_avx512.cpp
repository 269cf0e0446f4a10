// The ceilings' inner loops with AVX-512, in assembly: a compiler must neither fold nor spill them.
// Elsewhere they are not called.
#include "bench/ops/ceilings.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace donar::bench {
namespace {

constexpr int kChains = 16;  // more than latency times throughput of any of these

}  // namespace

// `iterations` times 16 independent accumulations of `instruction`.
#define DONAR_PEAK_LOOP(instruction)                                                             \
  asm volatile(                                                                                  \
      "1:\n" instruction " %%zmm16, %%zmm17, %%zmm0\n" instruction                               \
      " %%zmm16, %%zmm17, %%zmm1\n" instruction " %%zmm16, %%zmm17, %%zmm2\n" instruction        \
      " %%zmm16, %%zmm17, %%zmm3\n" instruction " %%zmm16, %%zmm17, %%zmm4\n" instruction        \
      " %%zmm16, %%zmm17, %%zmm5\n" instruction " %%zmm16, %%zmm17, %%zmm6\n" instruction        \
      " %%zmm16, %%zmm17, %%zmm7\n" instruction " %%zmm16, %%zmm17, %%zmm8\n" instruction        \
      " %%zmm16, %%zmm17, %%zmm9\n" instruction " %%zmm16, %%zmm17, %%zmm10\n" instruction       \
      " %%zmm16, %%zmm17, %%zmm11\n" instruction " %%zmm16, %%zmm17, %%zmm12\n" instruction      \
      " %%zmm16, %%zmm17, %%zmm13\n" instruction " %%zmm16, %%zmm17, %%zmm14\n" instruction      \
      " %%zmm16, %%zmm17, %%zmm15\n"                                                             \
      "dec %0\n jnz 1b\n"                                                                        \
      : "+r"(iterations)                                                                         \
      :                                                                                          \
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "cc")

double avx512_int8_loop(long iterations) {
  DONAR_PEAK_LOOP("vpdpbusd");
  return 2.0 * 64 * kChains;
}

double avx512_f32_loop(long iterations) {
  asm volatile("vpxord %%zmm16, %%zmm16, %%zmm16\n vpxord %%zmm17, %%zmm17, %%zmm17\n" ::
                   : "xmm16", "xmm17");
  DONAR_PEAK_LOOP("vfmadd231ps");
  return 2.0 * 16 * kChains;
}

// Two streams, 12 lines ahead and into L2: of the distances and 1, 2 and 4 streams tried on a
// Sapphire Rapids VM the fastest, 39.5 GB/s where one stream 64 lines ahead has 32.6.
long avx512_read_loop(const void* data, long bytes) {
  constexpr int kStreams = 2, kAhead = 12;
  const auto* at = static_cast<const __m512i*>(data);
  const long half = bytes / 64 / kStreams;
  __m512i sum[8] = {};
  for (long i = 0; i + 4 <= half; i += 4) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const __m512i* line = at + stream * half + i;
      for (int c = 0; c < 4; ++c) {
        _mm_prefetch(reinterpret_cast<const char*>(line + kAhead + c), _MM_HINT_T1);
        sum[stream * 4 + c] = _mm512_add_epi64(sum[stream * 4 + c], _mm512_loadu_si512(line + c));
      }
    }
  }
  for (int c = 1; c < 8; ++c) sum[0] = _mm512_add_epi64(sum[0], sum[c]);
  return _mm512_reduce_add_epi64(sum[0]);
}

}  // namespace donar::bench

#else

namespace donar::bench {
double avx512_int8_loop(long) { return 0; }
double avx512_f32_loop(long) { return 0; }
long avx512_read_loop(const void*, long) { return 0; }
}  // namespace donar::bench

#endif
