// The vector type of the NEON kernels: 8 lanes in two registers. The interface is described in
// vec_portable.h, less the integer dot products: linear has kernels of its own (linear_neon.h). A
// type per instruction set, since functions of one type would be linked from any one of the files.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "tensor/exec.h"

namespace donar::ops::cpu {

template <CpuIsa kIsa>
struct VecNeon {
  static constexpr int kLanes = 8;
  static constexpr int kMaxRows = kIsa == CpuIsa::kNeonI8mm ? 8 : 4;
  static constexpr int kKeyVectors = 2;

  struct F {
    float32x4_t a, b;
  };
  struct B {
    uint32x4_t a, b;
  };

  static F zero() { return set1(0.0f); }
  static F set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
  static F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static F load_n(const float* p, int n) {
    if (n >= kLanes) return load(p);
    float all[kLanes] = {};
    std::memcpy(all, p, sizeof(float) * static_cast<size_t>(n));
    return load(all);
  }
  static void store(float* p, F x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
  }
  static void store_n(float* p, F x, int n) {
    if (n >= kLanes) return store(p, x);
    float all[kLanes];
    store(all, x);
    std::memcpy(p, all, sizeof(float) * static_cast<size_t>(n));
  }

  static uint16x8_t load_16(const void* p) {
    uint16x8_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return bits;
  }
  static F load_f16(const void* p) {
    const float16x8_t values = vreinterpretq_f16_u16(load_16(p));
    return {vcvt_f32_f16(vget_low_f16(values)), vcvt_high_f32_f16(values)};
  }
  static F load_bf16(const void* p) {
    const uint16x8_t bits = load_16(p);
    return floats({vshll_n_u16(vget_low_u16(bits), 16), vshll_high_n_u16(bits, 16)});
  }
  static void store_16_n(void* p, uint16x8_t bits, int n) {
    std::memcpy(p, &bits, static_cast<size_t>(n < kLanes ? n : kLanes) * 2);
  }
  // Nearest even, in the high half of each lane; NaN stays NaN.
  static uint32x4_t bf16_bits(float32x4_t x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t lsb = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(lsb, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vbslq_u32(vceqq_f32(x, x), rounded, quiet);
  }
  static void store_bf16_n(void* p, F x, int n) {
    store_16_n(p, vshrn_high_n_u32(vshrn_n_u32(bf16_bits(x.a), 16), bf16_bits(x.b), 16), n);
  }
  static void store_f16_n(void* p, F x, int n) {
    store_16_n(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)), n);
  }

  static F add(F x, F y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
  static F sub(F x, F y) { return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)}; }
  static F mul(F x, F y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
  static F div(F x, F y) { return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b)}; }
  static F max(F x, F y) { return {vmaxq_f32(x.a, y.a), vmaxq_f32(x.b, y.b)}; }
  static F min(F x, F y) { return {vminq_f32(x.a, y.a), vminq_f32(x.b, y.b)}; }
  static F abs(F x) { return {vabsq_f32(x.a), vabsq_f32(x.b)}; }
  static F fma(F x, F y, F z) { return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)}; }
  static F round(F x) { return {vrndnq_f32(x.a), vrndnq_f32(x.b)}; }
  static float32x4_t power_of_2(float32x4_t n) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
  }
  static F scale2(F x, F n) { return mul(x, {power_of_2(n.a), power_of_2(n.b)}); }
  static F zero_below(F x, F limit, F y) {
    const B bits = as_bytes(y);
    return floats({vandq_u32(vcgeq_f32(x.a, limit.a), bits.a),  //
                   vandq_u32(vcgeq_f32(x.b, limit.b), bits.b)});
  }
  static F keep_range(F x, int index, int begin, int end, F other) {
    alignas(16) static constexpr int32_t kLaneNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7};
    const auto inside = [&](int first) {
      const int32x4_t at = vaddq_s32(vdupq_n_s32(index), vld1q_s32(kLaneNumbers + first));
      return vandq_u32(vcgeq_s32(at, vdupq_n_s32(begin)), vcltq_s32(at, vdupq_n_s32(end)));
    };
    return {vbslq_f32(inside(0), x.a, other.a), vbslq_f32(inside(4), x.b, other.b)};
  }

  static float reduce_add(F x) { return vaddvq_f32(vaddq_f32(x.a, x.b)); }
  static float reduce_max(F x) { return vmaxvq_f32(vmaxq_f32(x.a, x.b)); }

  static void transpose_4(float32x4_t& r0, float32x4_t& r1, float32x4_t& r2, float32x4_t& r3) {
    const auto pairs = [](float32x4_t x) { return vreinterpretq_f64_f32(x); };
    const float32x4x2_t low = vtrnq_f32(r0, r1);
    const float32x4x2_t high = vtrnq_f32(r2, r3);
    r0 = vreinterpretq_f32_f64(vzip1q_f64(pairs(low.val[0]), pairs(high.val[0])));
    r1 = vreinterpretq_f32_f64(vzip1q_f64(pairs(low.val[1]), pairs(high.val[1])));
    r2 = vreinterpretq_f32_f64(vzip2q_f64(pairs(low.val[0]), pairs(high.val[0])));
    r3 = vreinterpretq_f32_f64(vzip2q_f64(pairs(low.val[1]), pairs(high.val[1])));
  }
  static void transpose(F (&m)[kLanes]) {
    transpose_4(m[0].a, m[1].a, m[2].a, m[3].a);
    transpose_4(m[4].b, m[5].b, m[6].b, m[7].b);
    transpose_4(m[0].b, m[1].b, m[2].b, m[3].b);
    transpose_4(m[4].a, m[5].a, m[6].a, m[7].a);
    for (int i = 0; i < 4; ++i) {
      const float32x4_t upper = m[i].b;
      m[i].b = m[i + 4].a;
      m[i + 4].a = upper;
    }
  }

  // 32 values (|x| <= 127) to int8, nearest even, and the sums of the first and the last 16.
  static void store_block_i8(int8_t* p, const F (&x)[4], int32_t (&sums)[2]) {
    for (int half = 0; half < 2; ++half) {
      const F& u = x[2 * half];
      const F& v = x[2 * half + 1];
      const auto narrow = [](F f) {
        return vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(f.a)), vcvtnq_s32_f32(f.b));
      };
      const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(narrow(u)), narrow(v));
      vst1q_s8(p + 16 * half, bytes);
      sums[half] = vaddlvq_s8(bytes);
    }
  }

  // Each lane's four bytes are two bf16 or f16.
  static F first_bf16(B w) { return floats({vshlq_n_u32(w.a, 16), vshlq_n_u32(w.b, 16)}); }
  static F second_bf16(B w) {
    const uint32x4_t high = vdupq_n_u32(0xffff0000u);
    return floats({vandq_u32(w.a, high), vandq_u32(w.b, high)});
  }
  static F first_f16(B w) {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(w.a))),
            vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(w.b)))};
  }
  static F second_f16(B w) {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(w.a, 16))),
            vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(w.b, 16)))};
  }
  static B as_bytes(F x) { return {vreinterpretq_u32_f32(x.a), vreinterpretq_u32_f32(x.b)}; }
  static F floats(B x) { return {vreinterpretq_f32_u32(x.a), vreinterpretq_f32_u32(x.b)}; }
  static F round_bf16(F x) {
    const uint32x4_t high = vdupq_n_u32(0xffff0000u);
    return floats({vandq_u32(bf16_bits(x.a), high), vandq_u32(bf16_bits(x.b), high)});
  }
};

}  // namespace donar::ops::cpu
