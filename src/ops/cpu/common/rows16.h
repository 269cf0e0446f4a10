// Layout kRows16: 16 output rows of a weight matrix interleaved, so that a vector lane is an output
// row and sums over K stay inside a lane. A matrix is ceil(n / 16) tiles, one after another; rows
// beyond n are zero. A tile holds all of K for its 16 rows and is a multiple of 64 bytes:
//
//   F32   k (padded to 2) x [16 rows] f32
//   F16   k (padded to 2) x [16 rows] f16
//   BF16  k/2 (k padded to 32) x [16 rows][2 k] bf16: what vdpbf16ps and tdpbf16ps take
//   Q4_0  k/64 pairs of blocks: d [2 blocks][16 rows] f16
//                             | [2 blocks] nibbles [4][16 rows][4 k]
//   Q4_1  k/64 pairs: d [2][16] f16 | m [2][16] f16 | [2] nibbles as Q4_0
//   Q5_0  k/64 pairs: d [2][16] f16 | [2](nibbles as Q4_0 | fifth bits [16 rows][4 k])
//   Q5_1  k/64 pairs: d [2][16] f16 | m [2][16] f16 | [2] blocks as Q5_0
//   Q8_0  k/64 pairs: d [2][16] f16 | [2] bytes [8 groups][16 rows][4 k], stored as q + 128
//   Q4_K  k/256 superblocks: d [16] f16 | dmin [16] f16 | scales [3][16 rows][4 bytes as stored]
//                          | [8 blocks] nibbles as Q4_0
//   Q5_K  k/256 superblocks: header as Q4_K | [8] blocks as Q5_0
//   Q6_K  k/256 superblocks: d [16] f16, 32 bytes unused | scales [8 blocks][2][16 rows] i8
//                          | [8](nibbles as Q4_0 | high bits [2][16 rows][4 k])
//
// A block is 32 values of k: 8 groups of 4, one 64-byte vector per group for bytes. Byte vector j
// of a nibble block has group 2j in its low and 2j + 1 in its high nibbles. The vector of fifth
// bits has group g in bit g; high-bits vector i of Q6_K has group 4i + t in bits 2t, 2t + 1. k is
// padded to a pair of blocks or a superblock, with scale 0. The vectors are what vpdpbusd takes: 16
// lanes of 4 unsigned bytes; eight of them in a row are the 8 x 64 byte tile of tdpbsud.
#pragma once

#include <cstdint>

#include "quant/linear_weight.h"

namespace donar::ops::cpu::rows16 {

inline constexpr int kTileRows = 16;
inline constexpr int kVectorBytes = 64;
inline constexpr int kBlock = 32;         // values of k per block
inline constexpr int kPair = 2 * kBlock;  // values of k per pair of blocks
inline constexpr int kScaleBytes = 64;    // f16 [2 blocks][16 rows]
inline constexpr int kNibbleBlockBytes = 4 * kVectorBytes;
inline constexpr int kByteBlockBytes = 8 * kVectorBytes;
inline constexpr int kQ4_0PairBytes = kScaleBytes + 2 * kNibbleBlockBytes;
inline constexpr int kQ4_1PairBytes = 2 * kScaleBytes + 2 * kNibbleBlockBytes;
inline constexpr int kQ8_0PairBytes = kScaleBytes + 2 * kByteBlockBytes;
inline constexpr int kFiveBitBlockBytes = 5 * kVectorBytes;
inline constexpr int kQ5_0PairBytes = kScaleBytes + 2 * kFiveBitBlockBytes;
inline constexpr int kQ5_1PairBytes = 2 * kScaleBytes + 2 * kFiveBitBlockBytes;
inline constexpr int kKHeaderBytes = kScaleBytes + 3 * kVectorBytes;  // of Q4_K and Q5_K
inline constexpr int kQ4KSuperBytes = kKHeaderBytes + 8 * kNibbleBlockBytes;
inline constexpr int kQ5KSuperBytes = kKHeaderBytes + 8 * kFiveBitBlockBytes;
inline constexpr int kQ6KBlockBytes = 6 * kVectorBytes;
inline constexpr int kQ6KHeaderBytes = 64 + 8 * 32;  // d, then the scales
inline constexpr int kQ6KSuperBytes = kQ6KHeaderBytes + 8 * kQ6KBlockBytes;

// k as the kernels see it: activations beyond the true k are zero.
int64_t padded_k(quant::Format format, int64_t k);
int64_t tile_bytes(quant::Format format, int64_t k);

// Writes one file row into its lane of a zeroed tile.
void pack_row(quant::Format format, const void* stored, int64_t k, int lane, void* tile);
void unpack_row(quant::Format format, const void* tile, int64_t k, int lane, float* values);

}  // namespace donar::ops::cpu::rows16
