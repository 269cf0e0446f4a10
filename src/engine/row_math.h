// Passes over one row of logits that the compiler turns into vector code without reordering float
// sums: 16 fixed lanes.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <span>

namespace donar::engine {

// The largest value; -infinity for an empty row. NaN is skipped.
inline float max_value(std::span<const float> row) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lanes[j] = row[i + j] > lanes[j] ? row[i + j] : lanes[j];
  }
  float best = -std::numeric_limits<float>::infinity();
  for (float lane : lanes) best = lane > best ? lane : best;
  for (; i < row.size(); ++i) best = row[i] > best ? row[i] : best;
  return best;
}

// The lowest id with the largest value; 0 if there is no value above -infinity.
inline int32_t argmax(std::span<const float> row) {
  const float best = max_value(row);
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] == best) return static_cast<int32_t>(i);
  }
  return 0;
}

// e^-distance for distance >= 0, within 2 units in the last place; exactly 1 at 0; beyond 87 as
// at 87. Cody and Waite's reduction to |r| <= ln(2)/2, then Taylor's polynomial of degree 7.
inline float exp_negative(float distance) {
  const float x = distance < 87.0f ? -distance : -87.0f;  // also for NaN and infinity
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

}  // namespace donar::engine
