// The vector type of the portable kernels: plain loops over 16 lanes, which any compiler turns into what its target has.
// The three Vec types have one interface; the kernels are written once over it. Only files of one instruction set include one.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace donar::ops::cpu {

struct VecPortable {
  static constexpr int kLanes = 16;          // f32 values in a vector
  static constexpr int kMaxRows = 4;         // activation rows in a register tile of linear
  static constexpr bool kUnsignedDot = false;  // dot4_u8 takes q + 128 as stored, the caller adds -128 * sum(x)
  static constexpr int kKeyVectors = 4;      // vectors of keys (or of the head) in a register tile of attention

  struct F { float v[kLanes]; };
  struct I { int32_t v[kLanes]; };
  struct B { uint8_t v[4 * kLanes]; };

  template <class Op>
  static F map(Op op) {
    F r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = op(i);
    return r;
  }

  static F zero() { return map([](int) { return 0.0f; }); }
  static F set1(float x) { return map([&](int) { return x; }); }
  static F load(const float* p) { return map([&](int i) { return p[i]; }); }
  static F load_n(const float* p, int n) { return map([&](int i) { return i < n ? p[i] : 0.0f; }); }
  static void store(float* p, F x) { std::memcpy(p, x.v, sizeof(x.v)); }
  static void store_n(float* p, F x, int n) { std::memcpy(p, x.v, sizeof(float) * static_cast<size_t>(n)); }

  static F load_f16(const void* p) {
    uint16_t bits[kLanes];
    std::memcpy(bits, p, sizeof(bits));
    return map([&](int i) { return f16_to_f32(bits[i]); });
  }
  static F load_bf16(const void* p) {
    uint16_t bits[kLanes];
    std::memcpy(bits, p, sizeof(bits));
    return map([&](int i) { return std::bit_cast<float>(static_cast<uint32_t>(bits[i]) << 16); });
  }
  static F load_i8(const void* p) {
    int8_t bytes[kLanes];
    std::memcpy(bytes, p, sizeof(bytes));
    return map([&](int i) { return static_cast<float>(bytes[i]); });
  }
  static void store_bf16_n(void* p, F x, int n) {
    for (int i = 0; i < n; ++i) static_cast<uint16_t*>(p)[i] = bf16(x.v[i]).bits;
  }
  static void store_f16_n(void* p, F x, int n) {
    for (int i = 0; i < n; ++i) static_cast<uint16_t*>(p)[i] = f32_to_f16(x.v[i]);
  }

  static F add(F a, F b) { return map([&](int i) { return a.v[i] + b.v[i]; }); }
  static F sub(F a, F b) { return map([&](int i) { return a.v[i] - b.v[i]; }); }
  static F mul(F a, F b) { return map([&](int i) { return a.v[i] * b.v[i]; }); }
  static F div(F a, F b) { return map([&](int i) { return a.v[i] / b.v[i]; }); }
  static F max(F a, F b) { return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
  static F min(F a, F b) { return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
  static F abs(F a) { return map([&](int i) { return std::fabs(a.v[i]); }); }
  static F fma(F a, F b, F c) { return map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; }); }
  static F round(F a) { return map([&](int i) { return std::nearbyintf(a.v[i]); }); }
  // a * 2^n for integral n in -126..127.
  static F scale2(F a, F n) {
    return map([&](int i) { return a.v[i] * std::bit_cast<float>((static_cast<int32_t>(n.v[i]) + 127) << 23); });
  }
  // y where x >= limit, else 0.
  static F zero_below(F x, F limit, F y) {
    return map([&](int i) { return x.v[i] >= limit.v[i] ? y.v[i] : 0.0f; });
  }
  // x where index + lane is in [begin, end), else `other`.
  static F keep_range(F x, int index, int begin, int end, F other) {
    return map([&](int i) { return index + i >= begin && index + i < end ? x.v[i] : other.v[i]; });
  }

  static float reduce_add(F a) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
    }
    return a.v[0];
  }
  static float reduce_max(F a) {
    float m = a.v[0];
    for (int i = 1; i < kLanes; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }

  static void transpose(F (&rows)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < i; ++j) {
        const float t = rows[i].v[j];
        rows[i].v[j] = rows[j].v[i];
        rows[j].v[i] = t;
      }
    }
  }

  static I iset1(int32_t x) {
    I r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = x;
    return r;
  }
  static F to_f32(I a) { return map([&](int i) { return static_cast<float>(a.v[i]); }); }
  // Saturation is the caller's business: |x| <= 127 here.
  static void store_i8(int8_t* p, F x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(x.v[i]);
  }

  static B load_bytes(const void* p) {
    B r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  template <class Op>
  static B map_bytes(Op op) {
    B r;
    for (int i = 0; i < 4 * kLanes; ++i) r.v[i] = static_cast<uint8_t>(op(i));
    return r;
  }
  static B low_nibbles(B a) { return map_bytes([&](int i) { return a.v[i] & 15; }); }
  static B high_nibbles(B a) { return map_bytes([&](int i) { return a.v[i] >> 4; }); }
  // low | bits 2t, 2t + 1 of high, moved to bits 4, 5.
  template <int t>
  static B with_high_bits(B low, B high) {
    return map_bytes([&](int i) { return low.v[i] | (high.v[i] >> (2 * t) & 3) << 4; });
  }
  // Each lane adds the products of its four bytes (0..63) with the four int8 at x.
  static I dot4(I sum, B w, const int8_t* x) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < 4; ++j) sum.v[i] += w.v[4 * i + j] * x[j];
    }
    return sum;
  }
  // The same for bytes that are stored as q + 128.
  static I dot4_u8(I sum, B w, const int8_t* x) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < 4; ++j) sum.v[i] += (w.v[4 * i + j] - 128) * x[j];
    }
    return sum;
  }
  // Each lane adds the products of its two bf16 with the two at x.
  static F dot_bf16(F sum, B w, const void* x) {
    uint16_t pair[2];
    std::memcpy(pair, x, 4);
    const float x0 = std::bit_cast<float>(static_cast<uint32_t>(pair[0]) << 16);
    const float x1 = std::bit_cast<float>(static_cast<uint32_t>(pair[1]) << 16);
    uint32_t words[kLanes];
    std::memcpy(words, w.v, sizeof(words));
    return map([&](int i) {
      const float w0 = std::bit_cast<float>(words[i] << 16);
      const float w1 = std::bit_cast<float>(words[i] & 0xffff0000u);
      return sum.v[i] + w0 * x0 + w1 * x1;
    });
  }
};

}  // namespace donar::ops::cpu
