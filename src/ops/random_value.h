// Made-up weights: a value follows from seed, row and column alone, so that every device and any
// number of threads give the same ones.
#pragma once

#include <cstdint>

#include "ops/cuda/common/tiled.h"

namespace donar::ops {

// Uniform on [-scale, scale).
DONAR_HOST_DEVICE constexpr float random_value(uint64_t seed, int64_t row, int64_t column,
                                               float scale) {
  uint64_t z = seed + static_cast<uint64_t>(row) * 0xd1342543de82ef95u +
               (static_cast<uint64_t>(column) + 1) * 0x9e3779b97f4a7c15u;  // splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return scale * (static_cast<float>(z >> 40) * 0x1p-23f - 1.0f);
}

// The scale of values that deviate by `spread`.
constexpr float random_scale(float spread) { return spread * 1.7320508f; }

}  // namespace donar::ops
