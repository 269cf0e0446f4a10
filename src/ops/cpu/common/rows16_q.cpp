// Formats with blocks of 32 values in layout kRows16.
#include "ops/cpu/common/rows16_blocks.h"
#include "quant/blocks.h"

namespace donar::ops::cpu::rows16 {
namespace {

// Four bits of a file's word to the lowest bits of four bytes.
uint32_t spread(uint32_t bits) { return bits * 0x00204081u & 0x01010101u; }

void put_fifth_bits(std::byte* vector, const uint8_t* qh, int lane) {
  const uint32_t bits = word_of(qh, 0);
  uint32_t word = 0;
  for (int g = 0; g < 8; ++g) word |= spread(bits >> 4 * g & 15) << g;
  put_word(vector, 0, lane, word);
}

// Where block b of a row lies; pairs have a scale per row and block in front, or a scale and a
// minimum.
struct Place {
  int64_t pair;
  int scale;
  int64_t bytes;
};
Place place(int64_t b, int lane, int pair_bytes, int block_bytes) {
  const int64_t pair = b / 2 * pair_bytes;
  return {pair, static_cast<int>(b % 2) * kTileRows + lane,
          pair + pair_bytes + (b % 2 - 2) * block_bytes};
}

void unpack_nibbles(bool has_min, bool five_bits, const std::byte* tile, int64_t k, int lane,
                    float* values) {
  const int block_bytes = five_bits ? kFiveBitBlockBytes : kNibbleBlockBytes;
  const int pair_bytes = (has_min ? 2 : 1) * kScaleBytes + 2 * block_bytes;
  const int middle = five_bits ? 16 : 8;
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const Place at = place(b, lane, pair_bytes, block_bytes);
    const float d = get_f16(tile + at.pair, at.scale);
    const float m = has_min ? get_f16(tile + at.pair + kScaleBytes, at.scale) : 0.0f;
    const std::byte* block = tile + at.bytes;
    for (int i = 0; i < kBlock; ++i) {
      int q = get_nibble(block, i, lane);
      if (five_bits) q |= get_fifth_bit(block + kNibbleBlockBytes, i, lane);
      values[b * kBlock + i] =
          has_min ? static_cast<float>(q) * d + m : static_cast<float>(q - middle) * d;
    }
  }
}

}  // namespace

void pack_q4_0(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ4_0>(stored, b);
    const Place at = place(b, lane, kQ4_0PairBytes, kNibbleBlockBytes);
    put_f16(tile + at.pair, at.scale, block.d);
    put_nibbles(tile + at.bytes, block.qs, lane);
  }
}

void pack_q4_1(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ4_1>(stored, b);
    const Place at = place(b, lane, kQ4_1PairBytes, kNibbleBlockBytes);
    put_f16(tile + at.pair, at.scale, block.d);
    put_f16(tile + at.pair + kScaleBytes, at.scale, block.m);
    put_nibbles(tile + at.bytes, block.qs, lane);
  }
}

void pack_q5_0(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ5_0>(stored, b);
    const Place at = place(b, lane, kQ5_0PairBytes, kFiveBitBlockBytes);
    put_f16(tile + at.pair, at.scale, block.d);
    put_nibbles(tile + at.bytes, block.qs, lane);
    put_fifth_bits(tile + at.bytes + kNibbleBlockBytes, block.qh, lane);
  }
}

void pack_q5_1(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ5_1>(stored, b);
    const Place at = place(b, lane, kQ5_1PairBytes, kFiveBitBlockBytes);
    put_f16(tile + at.pair, at.scale, block.d);
    put_f16(tile + at.pair + kScaleBytes, at.scale, block.m);
    put_nibbles(tile + at.bytes, block.qs, lane);
    put_fifth_bits(tile + at.bytes + kNibbleBlockBytes, block.qh, lane);
  }
}

void pack_q8_0(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ8_0>(stored, b);
    const Place at = place(b, lane, kQ8_0PairBytes, kByteBlockBytes);
    put_f16(tile + at.pair, at.scale, block.d);
    for (int g = 0; g < 8; ++g)
      put_word(tile + at.bytes, g, lane, word_of(block.qs, g) ^ 0x80808080u);
  }
}

void unpack_q4_0(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_nibbles(/*has_min=*/false, /*five_bits=*/false, tile, k, lane, values);
}
void unpack_q4_1(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_nibbles(/*has_min=*/true, /*five_bits=*/false, tile, k, lane, values);
}
void unpack_q5_0(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_nibbles(/*has_min=*/false, /*five_bits=*/true, tile, k, lane, values);
}
void unpack_q5_1(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_nibbles(/*has_min=*/true, /*five_bits=*/true, tile, k, lane, values);
}

void unpack_q8_0(const std::byte* tile, int64_t k, int lane, float* values) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const Place at = place(b, lane, kQ8_0PairBytes, kByteBlockBytes);
    const float d = get_f16(tile + at.pair, at.scale);
    for (int i = 0; i < kBlock; ++i)
      values[b * kBlock + i] =
          static_cast<float>(byte_at(tile + at.bytes, byte_index(i, lane)) - 128) * d;
  }
}

}  // namespace donar::ops::cpu::rows16
