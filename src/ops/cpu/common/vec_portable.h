// The vector type of the portable kernels: plain loops over 16 lanes, which any compiler turns into
// what its target has. The three Vec types have one interface; the kernels are written once over
// it. Only files of one instruction set include one.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace donar::ops::cpu {

struct VecPortable {
  static constexpr int kLanes = 16;   // f32 values in a vector
  static constexpr int kMaxRows = 4;  // activation rows in a register tile of linear
  static constexpr bool kUnsignedDot =
      false;  // dot4_u8 counts q + 128, the caller adds -128 * sum(x)
  static constexpr int kKeyVectors =
      4;  // vectors of keys (or of the head) in a register tile of attention

  struct F {
    float v[kLanes];
  };
  struct I {
    int32_t v[kLanes];
  };
  struct B {
    uint8_t v[4 * kLanes];
  };

  template <class Op>
  static F map(Op op) {
    F r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = op(i);
    return r;
  }

  static F zero() {
    return map([](int) { return 0.0f; });
  }
  static F set1(float x) {
    return map([&](int) { return x; });
  }
  static F load(const float* p) {
    return map([&](int i) { return p[i]; });
  }
  static F load_n(const float* p, int n) {
    return map([&](int i) { return i < n ? p[i] : 0.0f; });
  }
  static void store(float* p, F x) { std::memcpy(p, x.v, sizeof(x.v)); }
  static void store_n(float* p, F x, int n) {
    std::memcpy(p, x.v, sizeof(float) * static_cast<size_t>(n));
  }

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

  static F add(F a, F b) {
    return map([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return map([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return map([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return map([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F max(F a, F b) {
    return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F min(F a, F b) {
    return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F abs(F a) {
    return map([&](int i) { return std::fabs(a.v[i]); });
  }
  static F fma(F a, F b, F c) {
    return map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static F round(F a) {
    return map([&](int i) { return std::nearbyintf(a.v[i]); });
  }
  // a * 2^n for integral n in -126..127.
  static F scale2(F a, F n) {
    return map([&](int i) {
      return a.v[i] * std::bit_cast<float>((static_cast<int32_t>(n.v[i]) + 127) << 23);
    });
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
  static F to_f32(I a) {
    return map([&](int i) { return static_cast<float>(a.v[i]); });
  }
  // 32 values (|x| <= 127) to int8, nearest even, and the sums of the first and the last 16.
  static void store_block_i8(int8_t* p, const F (&x)[2], int32_t (&sums)[2]) {
    for (int half = 0; half < 2; ++half) {
      sums[half] = 0;
      for (int i = 0; i < kLanes; ++i) {
        p[half * kLanes + i] = static_cast<int8_t>(std::nearbyintf(x[half].v[i]));
        sums[half] += p[half * kLanes + i];
      }
    }
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
  static B low_nibbles(B a) {
    return map_bytes([&](int i) { return a.v[i] & 15; });
  }
  static B high_nibbles(B a) {
    return map_bytes([&](int i) { return a.v[i] >> 4; });
  }
  // low | bits 2t, 2t + 1 of high, moved to bits 4, 5.
  template <int t>
  static B with_high_bits(B low, B high) {
    return map_bytes([&](int i) { return low.v[i] | (high.v[i] >> (2 * t) & 3) << 4; });
  }
  // low | bit g of fifth, moved to bit 4.
  template <int g>
  static B with_fifth_bit(B low, B fifth) {
    return map_bytes([&](int i) { return low.v[i] | (fifth.v[i] >> g & 1) << 4; });
  }
  // The lowest of each lane's four bytes as a float; the next byte to the lowest place.
  static F first_byte(B a) {
    return map([&](int i) { return static_cast<float>(a.v[4 * i]); });
  }
  static B next_bytes(B a) {
    return map_bytes([&](int i) { return i % 4 < 3 ? a.v[i + 1] : 0; });
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
  // Sums of nibbles (at most 8 groups of 4), for which a Vec may have narrower arithmetic; `offset`
  // is added once.
  using N = I;
  static N begin_nibbles(int32_t offset) { return iset1(offset); }
  static N dot4_nibbles(N sum, B w, const int8_t* x) { return dot4(sum, w, x); }
  static I end_nibbles(N sum, int32_t) { return sum; }
  // The same for groups g = 0 to 7 of five-bit values.
  using N5 = I;
  static N5 begin_fives(int32_t offset) { return iset1(offset); }
  template <int g>
  static N5 dot4_fives(N5 sum, B w, const int8_t* x) {
    return dot4(sum, w, x);
  }
  static I end_fives(N5 sum, int32_t) { return sum; }

  // Each lane's four bytes are two bf16.
  static F first_bf16(B w) {
    return words(w, [](uint32_t word) { return word << 16; });
  }
  static F second_bf16(B w) {
    return words(w, [](uint32_t word) { return word & 0xffff0000u; });
  }
  static F first_f16(B w) { return halves(w, 0); }
  static F second_f16(B w) { return halves(w, 16); }
  static B as_bytes(F x) { return std::bit_cast<B>(x); }
  static F round_bf16(F x) {
    return map([&](int i) { return static_cast<float>(bf16(x.v[i])); });
  }

 private:
  static F halves(B w, int shift) {
    uint32_t word[kLanes];
    std::memcpy(word, w.v, sizeof(word));
    return map([&](int i) { return f16_to_f32(static_cast<uint16_t>(word[i] >> shift)); });
  }
  template <class Op>
  static F words(B w, Op op) {
    uint32_t word[kLanes];
    std::memcpy(word, w.v, sizeof(word));
    return map([&](int i) { return std::bit_cast<float>(op(word[i])); });
  }
};

}  // namespace donar::ops::cpu
