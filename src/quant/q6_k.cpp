// Q6_K: 256 values of six bits, an int8 scale per 16 of them, one f16 scale over those.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {
namespace {

constexpr int kGroup = 16;

// The scale for 16 values in -32..31 that leaves the least squared error, large values weighing
// more (weight x^2): with levels fixed, the best scale is sum(w x l) / sum(w l l), and what it
// explains is sum(w x l)^2 / sum(w l l). Tries the range's full use and 18 scales around it, since
// using the whole range is rarely the best.
float best_scale(const float* x) {
  float extreme = 0;
  for (int i = 0; i < kGroup; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  if (std::fabs(extreme) < 1e-15f) return 0;
  float scale = 0;
  float explained = -1;
  for (int step = -9; step <= 9; ++step) {
    const float inverse = -(32.0f + 0.1f * static_cast<float>(step)) / extreme;
    float xl = 0;
    float ll = 0;
    for (int i = 0; i < kGroup; ++i) {
      const float level = std::clamp(std::nearbyint(x[i] * inverse), -32.0f, 31.0f);
      const float weight = x[i] * x[i];
      xl += weight * x[i] * level;
      ll += weight * level * level;
    }
    if (ll > 0 && xl * xl > explained * ll) {
      scale = xl / ll;
      explained = xl * xl / ll;
    }
  }
  return scale;
}

}  // namespace

void q6_k_values(const BlockQ6_K& block, uint8_t* q) {
  for (int n = 0; n < 2; ++n) {
    const uint8_t* low = block.ql + 64 * n;
    const uint8_t* high = block.qh + 32 * n;
    uint8_t* out = q + 128 * n;
    for (int l = 0; l < 32; ++l) {
      out[l] = static_cast<uint8_t>((low[l] & 15) | (high[l] & 3) << 4);
      out[l + 32] = static_cast<uint8_t>((low[l + 32] & 15) | (high[l] >> 2 & 3) << 4);
      out[l + 64] = static_cast<uint8_t>(low[l] >> 4 | (high[l] >> 4 & 3) << 4);
      out[l + 96] = static_cast<uint8_t>(low[l + 32] >> 4 | (high[l] >> 6 & 3) << 4);
    }
  }
}

void q6_k_set_values(const uint8_t* q, BlockQ6_K& block) {
  for (int n = 0; n < 2; ++n) {
    const uint8_t* in = q + 128 * n;
    for (int l = 0; l < 32; ++l) {
      block.ql[64 * n + l] = static_cast<uint8_t>((in[l] & 15) | (in[l + 64] & 15) << 4);
      block.ql[64 * n + l + 32] = static_cast<uint8_t>((in[l + 32] & 15) | (in[l + 96] & 15) << 4);
      block.qh[32 * n + l] = static_cast<uint8_t>(in[l] >> 4 | (in[l + 32] >> 4) << 2 |
                                                  (in[l + 64] >> 4) << 4 | (in[l + 96] >> 4) << 6);
    }
  }
}

void unpack_q6_k(const void* stored, float* values) {
  BlockQ6_K block;
  std::memcpy(&block, stored, sizeof(block));
  uint8_t q[BlockQ6_K::kValues];
  q6_k_values(block, q);
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < BlockQ6_K::kValues; ++i) {
    values[i] = d * static_cast<float>(block.scales[i / kGroup]) * static_cast<float>(q[i] - 32);
  }
}

void pack_q6_k(const float* values, void* stored) {
  BlockQ6_K block{};
  float scales[BlockQ6_K::kValues / kGroup];
  float extreme = 0;
  for (int g = 0; g < 16; ++g) {
    scales[g] = best_scale(values + g * kGroup);
    if (std::fabs(scales[g]) > std::fabs(extreme)) extreme = scales[g];
  }
  uint8_t q[BlockQ6_K::kValues];
  std::fill(q, q + BlockQ6_K::kValues, uint8_t{32});
  if (extreme != 0) {
    // As in Q4_0 the extreme takes the longer side of the range: -128.
    block.d = f32_to_f16(extreme / -128.0f);
    const float d = f16_to_f32(block.d);
    for (int g = 0; g < 16; ++g) {
      const float level =
          d != 0 ? std::clamp(std::nearbyint(scales[g] / d), -128.0f, 127.0f) : 0.0f;
      block.scales[g] = static_cast<int8_t>(level);
      const float scale = d * level;
      if (scale == 0) continue;
      for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
        const float rounded = std::clamp(std::nearbyint(values[i] / scale), -32.0f, 31.0f);
        q[i] = static_cast<uint8_t>(static_cast<int>(rounded) + 32);
      }
    }
  }
  q6_k_set_values(q, block);
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
