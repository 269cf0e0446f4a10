// Packing of the block formats into layout kRows16 (rows16.h): one row of a file into its lane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ops/cpu/common/rows16.h"
#include "tensor/dtype.h"

namespace donar::ops::cpu::rows16 {

// One row of blocks into its lane of a zeroed tile, and its values back.
void pack_q4_0(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q4_0(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q4_1(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q4_1(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q5_0(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q5_0(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q5_1(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q5_1(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q8_0(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q8_0(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q4_k(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q4_k(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q5_k(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q5_k(const std::byte* tile, int64_t k, int lane, float* values);
void pack_q6_k(const void* stored, int64_t k, int lane, std::byte* tile);
void unpack_q6_k(const std::byte* tile, int64_t k, int lane, float* values);

// Where value i of a block lies: the vector's byte for this lane, with the nibble.
inline int nibble_byte(int i, int lane) { return (i / 8) * kVectorBytes + lane * 4 + i % 4; }
inline int nibble_shift(int i) { return (i / 4) % 2 * 4; }
inline int byte_index(int i, int lane) { return (i / 4) * kVectorBytes + lane * 4 + i % 4; }
inline int high_bits_byte(int i, int lane) { return (i / 16) * kVectorBytes + lane * 4 + i % 4; }
inline int high_bits_shift(int i) { return (i / 4) % 4 * 2; }

template <class Block>
Block read_block(const void* stored, int64_t index) {
  Block block;
  std::memcpy(&block, static_cast<const std::byte*>(stored) + index * int64_t{sizeof(Block)},
              sizeof(Block));
  return block;
}

// Packing works in words of four values of one row: a lane's part of a vector.
inline constexpr uint32_t kLowNibbles = 0x0f0f0f0f;
inline constexpr uint32_t kLowPairs = 0x03030303;

inline uint32_t word_of(const void* bytes, int index) {
  uint32_t word;
  std::memcpy(&word, static_cast<const std::byte*>(bytes) + index * 4, 4);
  return word;
}
inline void put_word(std::byte* vectors, int vector, int lane, uint32_t word) {
  std::memcpy(vectors + vector * kVectorBytes + lane * 4, &word, 4);
}

// A file's block has value j in the low and j + 16 in the high nibble of byte j.
inline void put_nibbles(std::byte* block, const uint8_t* qs, int lane) {
  for (int j = 0; j < 2; ++j) {
    const uint32_t even = word_of(qs, 2 * j);
    const uint32_t odd = word_of(qs, 2 * j + 1);
    put_word(block, j, lane, (even & kLowNibbles) | (odd & kLowNibbles) << 4);
    put_word(block, j + 2, lane, (even >> 4 & kLowNibbles) | (odd & ~kLowNibbles));
  }
}

inline void put_f16(std::byte* at, int index, uint16_t bits) {
  std::memcpy(at + index * 2, &bits, 2);
}
inline float get_f16(const std::byte* at, int index) {
  uint16_t bits;
  std::memcpy(&bits, at + index * 2, 2);
  return f16_to_f32(bits);
}

inline uint8_t byte_at(const std::byte* base, int64_t index) {
  return static_cast<uint8_t>(base[index]);
}

inline int get_nibble(const std::byte* block, int i, int lane) {
  return byte_at(block, nibble_byte(i, lane)) >> nibble_shift(i) & 15;
}

// The fifth bit of value i of a block, in place.
inline int get_fifth_bit(const std::byte* vector, int i, int lane) {
  return (byte_at(vector, lane * 4 + i % 4) >> (i / 4) & 1) << 4;
}

}  // namespace donar::ops::cpu::rows16
