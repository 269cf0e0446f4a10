// Which bytes of a k-tiled stage a lane asks for, so that ldmatrix gives it its mma operands:
// shared by the decode kernel and the test that follows them on the host.
#pragma once

#include <cstdint>

#include "ops/cuda/common/tiled.h"

namespace donar::ops::cuda {

inline constexpr int kRowBytes = kTileK * 2;  // of 16-bit values in a k tile
inline constexpr int kMmaRows = 16;
inline constexpr int kMmaK = 16;

// Weights, 16 rows by K of 16 at the beginning of a k tile: lane l addresses row l % 16, the low or
// high 8 of K.
DONAR_HOST_DEVICE constexpr uint32_t weight_lane_offset(int lane) {
  return lane % 16 * kRowBytes + ((lane / 16) ^ (lane % 8)) * 16;
}

// Rows of x: 16 of them by K of 16, or (deep) 8 of them by K of 32.
DONAR_HOST_DEVICE constexpr uint32_t x_lane_offset(int lane, bool deep) {
  const int row = deep ? lane % 8 : lane % 8 + lane / 16 * 8;
  const int slot = deep ? lane / 8 : lane / 8 % 2;
  return row * kRowBytes + (slot ^ (lane % 8)) * 16;
}

// The same lanes at K of 16 * k16: the swizzle is an exclusive or in bits 4 to 6 of the address,
// and so is a step along K, as long as k tiles begin at multiples of 128 bytes.
DONAR_HOST_DEVICE constexpr uint32_t at_k16(uint32_t address, int k16) {
  return address ^ static_cast<uint32_t>(k16 * kMmaK * 2);
}

}  // namespace donar::ops::cuda
