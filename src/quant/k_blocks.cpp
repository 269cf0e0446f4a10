#include "quant/k_blocks.h"

#include <algorithm>
#include <cmath>

#include "tensor/dtype.h"

namespace donar::quant {
namespace {

constexpr int kRun = 32;
constexpr int kRuns = 8;
constexpr float kTopScale = 63.0f;

struct Line {
  float scale = 0;
  float min = 0;  // taken away: never negative, as the file's minimums are unsigned
};

// The line scale * level - min through 32 values that leaves the least squared error; a value
// weighs its magnitude plus the run's root mean square, so that small values still count. Levels
// come from a step around the range's; with levels fixed, the best line is a weighted regression.
Line best_line(const float* x, int top) {
  float low = 0;
  float high = x[0];
  float squares = 0;
  for (int i = 0; i < kRun; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    squares += x[i] * x[i];
  }
  if (high - low < 1e-15f) return {0, -low};
  const float typical = std::sqrt(squares / kRun);
  Line best;
  float least = INFINITY;
  for (int step = -9; step <= 9; ++step) {
    const float inverse =
        (static_cast<float>(top) + 0.1f * static_cast<float>(step)) / (high - low);
    float level[kRun];
    float w_sum = 0, wl = 0, wll = 0, wx = 0, wlx = 0;
    for (int i = 0; i < kRun; ++i) {
      level[i] = std::clamp(std::nearbyint((x[i] - low) * inverse), 0.0f, static_cast<float>(top));
      const float weight = typical + std::fabs(x[i]);
      w_sum += weight;
      wl += weight * level[i];
      wll += weight * level[i] * level[i];
      wx += weight * x[i];
      wlx += weight * level[i] * x[i];
    }
    const float determinant = w_sum * wll - wl * wl;
    Line line{wll > 0 ? wlx / wll : 0.0f, 0};
    if (determinant > 0) {
      const float intercept = (wll * wx - wl * wlx) / determinant;
      if (intercept < 0) line = {(w_sum * wlx - wl * wx) / determinant, -intercept};
    }
    float error = 0;
    for (int i = 0; i < kRun; ++i) {
      const float off = line.scale * level[i] - line.min - x[i];
      error += (typical + std::fabs(x[i])) * off * off;
    }
    if (line.scale >= 0 && error < least) {
      least = error;
      best = line;
    }
  }
  return best;
}

// Level 0..63 of a scale or minimum under its block's d.
uint8_t scale_level(float value, float d) {
  return d > 0 ? static_cast<uint8_t>(std::clamp(std::nearbyint(value / d), 0.0f, kTopScale)) : 0;
}

}  // namespace

KScales unpack_k_scales(const uint8_t* stored) {
  KScales scales;
  for (int i = 0; i < 4; ++i) {
    scales.scale[i] = stored[i] & 63;
    scales.min[i] = stored[i + 4] & 63;
    scales.scale[i + 4] = static_cast<uint8_t>((stored[i + 8] & 15) | stored[i] >> 6 << 4);
    scales.min[i + 4] = static_cast<uint8_t>(stored[i + 8] >> 4 | stored[i + 4] >> 6 << 4);
  }
  return scales;
}

void pack_k_scales(const KScales& scales, uint8_t* stored) {
  for (int i = 0; i < 4; ++i) {
    stored[i] = static_cast<uint8_t>(scales.scale[i] | scales.scale[i + 4] >> 4 << 6);
    stored[i + 4] = static_cast<uint8_t>(scales.min[i] | scales.min[i + 4] >> 4 << 6);
    stored[i + 8] =
        static_cast<uint8_t>((scales.scale[i + 4] & 15) | (scales.min[i + 4] & 15) << 4);
  }
}

KLevels find_k_levels(const float* values, int top) {
  KLevels levels{};
  Line lines[kRuns];
  float largest_scale = 0;
  float largest_min = 0;
  for (int r = 0; r < kRuns; ++r) {
    lines[r] = best_line(values + r * kRun, top);
    largest_scale = std::max(largest_scale, lines[r].scale);
    largest_min = std::max(largest_min, lines[r].min);
  }
  levels.d = f32_to_f16(largest_scale / kTopScale);
  levels.dmin = f32_to_f16(largest_min / kTopScale);
  const float d = f16_to_f32(levels.d);
  const float dmin = f16_to_f32(levels.dmin);
  for (int r = 0; r < kRuns; ++r) {
    levels.scales.scale[r] = scale_level(lines[r].scale, d);
    levels.scales.min[r] = scale_level(lines[r].min, dmin);
    // The levels that suit the scale and the minimum as they were rounded.
    const float scale = d * static_cast<float>(levels.scales.scale[r]);
    const float min = dmin * static_cast<float>(levels.scales.min[r]);
    if (scale == 0) continue;
    for (int i = r * kRun; i < (r + 1) * kRun; ++i)
      levels.q[i] = static_cast<uint8_t>(
          std::clamp(std::nearbyint((values[i] + min) / scale), 0.0f, static_cast<float>(top)));
  }
  return levels;
}

void k_values(const KLevels& levels, float* values) {
  const float d = f16_to_f32(levels.d);
  const float dmin = f16_to_f32(levels.dmin);
  for (int r = 0; r < kRuns; ++r) {
    const float scale = d * static_cast<float>(levels.scales.scale[r]);
    const float min = dmin * static_cast<float>(levels.scales.min[r]);
    for (int i = r * kRun; i < (r + 1) * kRun; ++i)
      values[i] = scale * static_cast<float>(levels.q[i]) - min;
  }
}

void read_run_nibbles(const uint8_t* qs, uint8_t* q) {
  for (int i = 0; i < 256; ++i) {
    const uint8_t both = qs[i / 64 * 32 + i % 32];
    q[i] = i % 64 < 32 ? both & 15 : both >> 4;
  }
}

void write_run_nibbles(const uint8_t* q, uint8_t* qs) {
  for (int i = 0; i < 128; ++i) {
    const uint8_t* low = q + i / 32 * 64 + i % 32;
    qs[i] = static_cast<uint8_t>((low[0] & 15) | (low[32] & 15) << 4);
  }
}

}  // namespace donar::quant
