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

struct BlockQ8_0 {
  static constexpr int kValues = 32;
  uint16_t d;  // f16 scale
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

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
void unpack_q8_0(const void* block, float* values);
void pack_q8_0(const float* values, void* block);
void unpack_q6_k(const void* block, float* values);
void pack_q6_k(const float* values, void* block);

}  // namespace donar::quant
