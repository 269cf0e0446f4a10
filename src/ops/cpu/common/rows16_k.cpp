// Formats with superblocks of 256 values in layout kRows16.
#include "ops/cpu/common/rows16_blocks.h"
#include "quant/blocks.h"

namespace donar::ops::cpu::rows16 {
namespace {

constexpr int64_t kSuper = 256;

template <class Block>
void put_k_header(const Block& block, int lane, std::byte* super) {
  put_f16(super, lane, block.d);
  put_f16(super + 32, lane, block.dmin);
  for (int i = 0; i < 3; ++i) put_word(super + 64, i, lane, word_of(block.scales, i));
}

// Block b of a file: runs 2c and 2c + 1 share 32 bytes.
void put_run_nibbles(std::byte* vectors, const uint8_t* qs, int b, int lane) {
  const uint8_t* bytes = qs + b / 2 * 32;
  const int nibble = b % 2 * 4;
  for (int j = 0; j < 4; ++j) {
    const uint32_t even = word_of(bytes, 2 * j) >> nibble & kLowNibbles;
    const uint32_t odd = word_of(bytes, 2 * j + 1) >> nibble & kLowNibbles;
    put_word(vectors, j, lane, even | odd << 4);
  }
}

void unpack_k(bool five_bits, const std::byte* tile, int64_t k, int lane, float* values) {
  const int block_bytes = five_bits ? kFiveBitBlockBytes : kNibbleBlockBytes;
  const int super_bytes = kKHeaderBytes + 8 * block_bytes;
  for (int64_t s = 0; s < k / kSuper; ++s) {
    const std::byte* super = tile + s * super_bytes;
    uint8_t stored[12];
    for (int i = 0; i < 12; ++i)
      stored[i] = byte_at(super + 64, i / 4 * kVectorBytes + lane * 4 + i % 4);
    const quant::KScales scales = quant::unpack_k_scales(stored);
    for (int b = 0; b < 8; ++b) {
      const float scale = get_f16(super, lane) * static_cast<float>(scales.scale[b]);
      const float min = get_f16(super + 32, lane) * static_cast<float>(scales.min[b]);
      const std::byte* block = super + kKHeaderBytes + b * block_bytes;
      for (int i = 0; i < kBlock; ++i) {
        int q = get_nibble(block, i, lane);
        if (five_bits) q |= get_fifth_bit(block + kNibbleBlockBytes, i, lane);
        values[s * kSuper + b * kBlock + i] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

}  // namespace

void pack_q4_k(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t s = 0; s < k / kSuper; ++s) {
    const auto block = read_block<quant::BlockQ4_K>(stored, s);
    std::byte* super = tile + s * kQ4KSuperBytes;
    put_k_header(block, lane, super);
    for (int b = 0; b < 8; ++b)
      put_run_nibbles(super + kKHeaderBytes + b * kNibbleBlockBytes, block.qs, b, lane);
  }
}

void pack_q5_k(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t s = 0; s < k / kSuper; ++s) {
    const auto block = read_block<quant::BlockQ5_K>(stored, s);
    std::byte* super = tile + s * kQ5KSuperBytes;
    put_k_header(block, lane, super);
    for (int b = 0; b < 8; ++b) {
      std::byte* vectors = super + kKHeaderBytes + b * kFiveBitBlockBytes;
      put_run_nibbles(vectors, block.qs, b, lane);
      uint32_t fifth = 0;
      for (int g = 0; g < 8; ++g) fifth |= (word_of(block.qh, g) >> b & 0x01010101u) << g;
      put_word(vectors + kNibbleBlockBytes, 0, lane, fifth);
    }
  }
}

void pack_q6_k(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t s = 0; s < k / kSuper; ++s) {
    const auto block = read_block<quant::BlockQ6_K>(stored, s);
    std::byte* super = tile + s * kQ6KSuperBytes;
    put_f16(super, lane, block.d);
    for (int g = 0; g < 16; ++g)
      super[64 + g * kTileRows + lane] = static_cast<std::byte>(block.scales[g]);
    for (int b = 0; b < 8; ++b) {
      // Block b of 32 values: which of the half's two runs of low nibbles, which nibble, which pair
      // of high bits.
      const uint8_t* low = block.ql + b / 4 * 64 + b % 2 * 32;
      const int nibble = b % 4 / 2 * 4;
      const uint8_t* high = block.qh + b / 4 * 32;
      const int pair = b % 4 * 2;
      std::byte* vectors = super + kQ6KHeaderBytes + b * kQ6KBlockBytes;
      for (int j = 0; j < 4; ++j) {
        const uint32_t even = word_of(low, 2 * j) >> nibble & kLowNibbles;
        const uint32_t odd = word_of(low, 2 * j + 1) >> nibble & kLowNibbles;
        put_word(vectors, j, lane, even | odd << 4);
      }
      for (int i = 0; i < 2; ++i) {
        uint32_t bits = 0;
        for (int t = 0; t < 4; ++t)
          bits |= (word_of(high, 4 * i + t) >> pair & kLowPairs) << (2 * t);
        put_word(vectors, 4 + i, lane, bits);
      }
    }
  }
}

void unpack_q4_k(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_k(/*five_bits=*/false, tile, k, lane, values);
}
void unpack_q5_k(const std::byte* tile, int64_t k, int lane, float* values) {
  unpack_k(/*five_bits=*/true, tile, k, lane, values);
}

void unpack_q6_k(const std::byte* tile, int64_t k, int lane, float* values) {
  for (int64_t i = 0; i < k; ++i) {
    const int in_super = static_cast<int>(i % kSuper);
    const int in_block = in_super % kBlock;
    const std::byte* super = tile + i / kSuper * kQ6KSuperBytes;
    const std::byte* low = super + kQ6KHeaderBytes + in_super / kBlock * kQ6KBlockBytes;
    const std::byte* high = low + 4 * kVectorBytes;
    const int q = get_nibble(low, in_block, lane) |
                  (byte_at(high, high_bits_byte(in_block, lane)) >> high_bits_shift(in_block) & 3)
                      << 4;
    const auto scale = static_cast<int8_t>(super[64 + in_super / 16 * kTileRows + lane]);
    values[i] = get_f16(super, lane) * static_cast<float>(scale) * static_cast<float>(q - 32);
  }
}

}  // namespace donar::ops::cpu::rows16
