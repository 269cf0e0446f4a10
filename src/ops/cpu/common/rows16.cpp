#include "ops/cpu/common/rows16.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::ops::cpu::rows16 {
namespace {

using quant::Format;

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Where value i of a block lies: the vector's byte for this lane, with the nibble.
int nibble_byte(int i, int lane) { return (i / 8) * kVectorBytes + lane * 4 + i % 4; }
int nibble_shift(int i) { return (i / 4) % 2 * 4; }
int byte_index(int i, int lane) { return (i / 4) * kVectorBytes + lane * 4 + i % 4; }
int high_bits_byte(int i, int lane) { return (i / 16) * kVectorBytes + lane * 4 + i % 4; }
int high_bits_shift(int i) { return (i / 4) % 4 * 2; }

template <class Block>
Block read_block(const void* stored, int64_t index) {
  Block block;
  std::memcpy(&block, static_cast<const std::byte*>(stored) + index * int64_t{sizeof(Block)},
              sizeof(Block));
  return block;
}

// Packing works in words of four values of one row: a lane's part of a vector.
constexpr uint32_t kLowNibbles = 0x0f0f0f0f;
constexpr uint32_t kLowPairs = 0x03030303;

uint32_t word_of(const void* bytes, int index) {
  uint32_t word;
  std::memcpy(&word, static_cast<const std::byte*>(bytes) + index * 4, 4);
  return word;
}
void put_word(std::byte* vectors, int vector, int lane, uint32_t word) {
  std::memcpy(vectors + vector * kVectorBytes + lane * 4, &word, 4);
}

// A file's block has value j in the low and j + 16 in the high nibble of byte j.
void put_nibbles(std::byte* block, const uint8_t* qs, int lane) {
  for (int j = 0; j < 2; ++j) {
    const uint32_t even = word_of(qs, 2 * j);
    const uint32_t odd = word_of(qs, 2 * j + 1);
    put_word(block, j, lane, (even & kLowNibbles) | (odd & kLowNibbles) << 4);
    put_word(block, j + 2, lane, (even >> 4 & kLowNibbles) | (odd & ~kLowNibbles));
  }
}

void put_f16(std::byte* at, int index, uint16_t bits) { std::memcpy(at + index * 2, &bits, 2); }
float get_f16(const std::byte* at, int index) {
  uint16_t bits;
  std::memcpy(&bits, at + index * 2, 2);
  return f16_to_f32(bits);
}

uint8_t byte_at(const std::byte* base, int64_t index) { return static_cast<uint8_t>(base[index]); }

int get_nibble(const std::byte* block, int i, int lane) {
  return byte_at(block, nibble_byte(i, lane)) >> nibble_shift(i) & 15;
}

void pack_q4_0(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ4_0>(stored, b);
    std::byte* pair = tile + b / 2 * kQ4_0PairBytes;
    put_f16(pair, static_cast<int>(b % 2) * kTileRows + lane, block.d);
    put_nibbles(pair + kScaleBytes + b % 2 * kNibbleBlockBytes, block.qs, lane);
  }
}

void pack_q4_1(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ4_1>(stored, b);
    std::byte* pair = tile + b / 2 * kQ4_1PairBytes;
    put_f16(pair, static_cast<int>(b % 2) * kTileRows + lane, block.d);
    put_f16(pair + kScaleBytes, static_cast<int>(b % 2) * kTileRows + lane, block.m);
    put_nibbles(pair + 2 * kScaleBytes + b % 2 * kNibbleBlockBytes, block.qs, lane);
  }
}

void pack_q8_0(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const auto block = read_block<quant::BlockQ8_0>(stored, b);
    std::byte* pair = tile + b / 2 * kQ8_0PairBytes;
    put_f16(pair, static_cast<int>(b % 2) * kTileRows + lane, block.d);
    std::byte* bytes = pair + kScaleBytes + b % 2 * kByteBlockBytes;
    for (int g = 0; g < 8; ++g) put_word(bytes, g, lane, word_of(block.qs, g) ^ 0x80808080u);
  }
}

void pack_q6_k(const void* stored, int64_t k, int lane, std::byte* tile) {
  for (int64_t s = 0; s < k / quant::BlockQ6_K::kValues; ++s) {
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

void unpack_q4(bool has_min, const std::byte* tile, int64_t k, int lane, float* values) {
  const int pair_bytes = has_min ? kQ4_1PairBytes : kQ4_0PairBytes;
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const std::byte* pair = tile + b / 2 * pair_bytes;
    const int scale = static_cast<int>(b % 2) * kTileRows + lane;
    const float d = get_f16(pair, scale);
    const float m = has_min ? get_f16(pair + kScaleBytes, scale) : 0.0f;
    const std::byte* block = pair + pair_bytes + (b % 2 - 2) * kNibbleBlockBytes;
    for (int i = 0; i < kBlock; ++i) {
      const int q = get_nibble(block, i, lane);
      values[b * kBlock + i] =
          has_min ? static_cast<float>(q) * d + m : static_cast<float>(q - 8) * d;
    }
  }
}

void unpack_q8_0(const std::byte* tile, int64_t k, int lane, float* values) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const std::byte* pair = tile + b / 2 * kQ8_0PairBytes;
    const float d = get_f16(pair, static_cast<int>(b % 2) * kTileRows + lane);
    const std::byte* bytes = pair + kScaleBytes + b % 2 * kByteBlockBytes;
    for (int i = 0; i < kBlock; ++i) {
      values[b * kBlock + i] = static_cast<float>(byte_at(bytes, byte_index(i, lane)) - 128) * d;
    }
  }
}

void unpack_q6_k(const std::byte* tile, int64_t k, int lane, float* values) {
  for (int64_t i = 0; i < k; ++i) {
    const int in_super = static_cast<int>(i % quant::BlockQ6_K::kValues);
    const int in_block = in_super % kBlock;
    const std::byte* super = tile + i / quant::BlockQ6_K::kValues * kQ6KSuperBytes;
    const std::byte* low = super + kQ6KHeaderBytes + in_super / kBlock * kQ6KBlockBytes;
    const std::byte* high = low + 4 * kVectorBytes;
    const int q = get_nibble(low, in_block, lane) |
                  (byte_at(high, high_bits_byte(in_block, lane)) >> high_bits_shift(in_block) & 3)
                      << 4;
    const auto scale = static_cast<int8_t>(super[64 + in_super / 16 * kTileRows + lane]);
    values[i] = get_f16(super, lane) * static_cast<float>(scale) * static_cast<float>(q - 32);
  }
}

// Plain elements: value i of a row at element index(i).
template <class T, class Index>
void scatter(const void* stored, int64_t k, std::byte* tile, Index index) {
  const auto* from = static_cast<const std::byte*>(stored);
  for (int64_t i = 0; i < k; ++i)
    std::memcpy(tile + index(i) * int64_t{sizeof(T)}, from + i * int64_t{sizeof(T)}, sizeof(T));
}
template <class T, class Index>
void gather(const std::byte* tile, int64_t k, float* values, Index index) {
  for (int64_t i = 0; i < k; ++i) {
    T value;
    std::memcpy(&value, tile + index(i) * int64_t{sizeof(T)}, sizeof(T));
    values[i] = static_cast<float>(value);
  }
}

}  // namespace

int64_t padded_k(Format format, int64_t k) {
  switch (format) {
    case Format::kF32:
    case Format::kF16:
      return round_up(k, 2);
    case Format::kBF16:
      return round_up(k, kBlock);
    case Format::kQ4_0:
    case Format::kQ4_1:
    case Format::kQ8_0:
      return round_up(k, kPair);
    case Format::kQ6_K:
      return round_up(k, quant::BlockQ6_K::kValues);
  }
  return k;
}

int64_t tile_bytes(Format format, int64_t k) {
  const int64_t padded = padded_k(format, k);
  switch (format) {
    case Format::kF32:
      return padded * kTileRows * 4;
    case Format::kF16:
    case Format::kBF16:
      return padded * kTileRows * 2;
    case Format::kQ4_0:
      return padded / kPair * kQ4_0PairBytes;
    case Format::kQ4_1:
      return padded / kPair * kQ4_1PairBytes;
    case Format::kQ8_0:
      return padded / kPair * kQ8_0PairBytes;
    case Format::kQ6_K:
      return padded / quant::BlockQ6_K::kValues * kQ6KSuperBytes;
  }
  return 0;
}

void pack_row(Format format, const void* stored, int64_t k, int lane, void* packed) {
  auto* tile = static_cast<std::byte*>(packed);
  const auto by_value = [&](int64_t i) { return i * kTileRows + lane; };
  const auto by_two = [&](int64_t i) { return (i / 2 * kTileRows + lane) * 2 + i % 2; };
  switch (format) {
    case Format::kF32:
      return scatter<float>(stored, k, tile, by_value);
    case Format::kF16:
      return scatter<f16>(stored, k, tile, by_value);
    case Format::kBF16: {
      for (int64_t i = 0; i < k / 2; ++i) {
        std::memcpy(tile + (i * kTileRows + lane) * 4,
                    static_cast<const std::byte*>(stored) + i * 4, 4);
      }
      if (k % 2 == 1)
        std::memcpy(tile + by_two(k - 1) * 2, static_cast<const std::byte*>(stored) + (k - 1) * 2,
                    2);
      return;
    }
    case Format::kQ4_0:
      return pack_q4_0(stored, k, lane, tile);
    case Format::kQ4_1:
      return pack_q4_1(stored, k, lane, tile);
    case Format::kQ8_0:
      return pack_q8_0(stored, k, lane, tile);
    case Format::kQ6_K:
      return pack_q6_k(stored, k, lane, tile);
  }
}

void unpack_row(Format format, const void* packed, int64_t k, int lane, float* values) {
  const auto* tile = static_cast<const std::byte*>(packed);
  const auto by_value = [&](int64_t i) { return i * kTileRows + lane; };
  const auto by_two = [&](int64_t i) { return (i / 2 * kTileRows + lane) * 2 + i % 2; };
  switch (format) {
    case Format::kF32:
      return gather<float>(tile, k, values, by_value);
    case Format::kF16:
      return gather<f16>(tile, k, values, by_value);
    case Format::kBF16:
      return gather<bf16>(tile, k, values, by_two);
    case Format::kQ4_0:
      return unpack_q4(/*has_min=*/false, tile, k, lane, values);
    case Format::kQ4_1:
      return unpack_q4(/*has_min=*/true, tile, k, lane, values);
    case Format::kQ8_0:
      return unpack_q8_0(tile, k, lane, values);
    case Format::kQ6_K:
      return unpack_q6_k(tile, k, lane, values);
  }
}

}  // namespace donar::ops::cpu::rows16
