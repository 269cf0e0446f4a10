// The vector type of the AVX-VNNI kernels: AVX2, with vpdpbusd for the products of bytes. The
// interface is described in vec_portable.h.
#pragma once

#include "ops/cpu/common/vec_avx2.h"

namespace donar::ops::cpu {

struct VecAvxVnni : VecAvx2 {
  static constexpr bool kUnsignedDot = true;

  static I dot4(I sum, B w, const int8_t* x) {
    return _mm256_dpbusd_avx_epi32(sum, w, broadcast4(x));
  }
  static I dot4_u8(I sum, B w, const int8_t* x) { return dot4(sum, w, x); }

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
};

}  // namespace donar::ops::cpu
