// Block layouts of the quantized formats as they lie in GGUF files, and their reference pack and
// unpack (one .cpp per format).
#pragma once

#include <cstdint>

namespace donar::quant {

struct BlockQ4_0 {
  static constexpr int kValues = 32;
  uint16_t d;      // f16 scale
  uint8_t qs[16];  // value j in the low nibble, j + 16 in the high one: (q - 8) * d
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_1 {
  static constexpr int kValues = 32;
  uint16_t d;      // f16 scale
  uint16_t m;      // f16 minimum
  uint8_t qs[16];  // nibbles as in Q4_0: q * d + m
};
static_assert(sizeof(BlockQ4_1) == 20);

struct BlockQ5_0 {
  static constexpr int kValues = 32;
  uint16_t d;      // f16 scale
  uint8_t qh[4];   // bit j: the fifth bit of value j
  uint8_t qs[16];  // nibbles as in Q4_0: (q - 16) * d
};
static_assert(sizeof(BlockQ5_0) == 22);

struct BlockQ5_1 {
  static constexpr int kValues = 32;
  uint16_t d;  // f16 scale
  uint16_t m;  // f16 minimum
  uint8_t qh[4];
  uint8_t qs[16];  // as in Q5_0: q * d + m
};
static_assert(sizeof(BlockQ5_1) == 24);

struct BlockQ8_0 {
  static constexpr int kValues = 32;
  uint16_t d;  // f16 scale
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// Q4_K and Q5_K: 8 runs of 32 values, each with a scale and a minimum of six bits:
// q * (d * scale) - dmin * min.
struct BlockQ4_K {
  static constexpr int kValues = 256;
  uint16_t d;          // f16 scale of the scales
  uint16_t dmin;       // f16 scale of the minimums
  uint8_t scales[12];  // KScales
  uint8_t qs[128];     // runs 2c and 2c + 1 are the low and the high nibbles of 32 bytes
};
static_assert(sizeof(BlockQ4_K) == 144);

struct BlockQ5_K {
  static constexpr int kValues = 256;
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];   // bit c of byte l: the fifth bit of value l of run c
  uint8_t qs[128];  // nibbles as in Q4_K
};
static_assert(sizeof(BlockQ5_K) == 176);

// The scales and minimums (0..63) of a block of Q4_K or Q5_K. Stored in 12 bytes: six bits of
// scales 0 to 3, six bits of minimums 0 to 3, then the low nibbles of scales and minimums 4 to 7 in
// pairs; their upper two bits lie above the first eight.
struct KScales {
  uint8_t scale[8];
  uint8_t min[8];
};
KScales unpack_k_scales(const uint8_t* stored);
void pack_k_scales(const KScales& scales, uint8_t* stored);

struct BlockQ6_K {
  static constexpr int kValues = 256;
  uint8_t ql[128];    // low 4 bits
  uint8_t qh[64];     // high 2 bits
  int8_t scales[16];  // per 16 values: (q - 32) * scales[i / 16] * d
  uint16_t d;         // f16 scale of the scales
};
static_assert(sizeof(BlockQ6_K) == 210);

// The 256 six-bit values (0..63) of a block in their natural order, and back.
void q6_k_values(const BlockQ6_K& block, uint8_t* q);
void q6_k_set_values(const uint8_t* q, BlockQ6_K& block);

void unpack_q4_0(const void* block, float* values);
void pack_q4_0(const float* values, void* block);
void unpack_q4_1(const void* block, float* values);
void pack_q4_1(const float* values, void* block);
void unpack_q5_0(const void* block, float* values);
void pack_q5_0(const float* values, void* block);
void unpack_q5_1(const void* block, float* values);
void pack_q5_1(const float* values, void* block);
void unpack_q8_0(const void* block, float* values);
void pack_q8_0(const float* values, void* block);
void unpack_q4_k(const void* block, float* values);
void pack_q4_k(const float* values, void* block);
void unpack_q5_k(const void* block, float* values);
void pack_q5_k(const float* values, void* block);
void unpack_q6_k(const void* block, float* values);
void pack_q6_k(const float* values, void* block);

}  // namespace donar::quant
