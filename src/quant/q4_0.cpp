// Q4_0: 32 values, one scale, no minimum.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {

void unpack_q4_0(const void* stored, float* values) {
  BlockQ4_0 block;
  std::memcpy(&block, stored, sizeof(block));
  const float d = f16_to_f32(block.d);
  for (int j = 0; j < 16; ++j) {
    values[j] = static_cast<float>((block.qs[j] & 15) - 8) * d;
    values[j + 16] = static_cast<float>((block.qs[j] >> 4) - 8) * d;
  }
}

// The value of largest magnitude, with its sign, becomes -8: the side of the range with one level
// more.
void pack_q4_0(const float* values, void* stored) {
  float extreme = 0;
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(values[j]) > std::fabs(extreme)) extreme = values[j];
  }
  const float d = extreme / -8.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  const auto level = [&](float value) {
    return static_cast<uint8_t>(std::clamp(static_cast<int>(value * inverse + 8.5f), 0, 15));
  };
  BlockQ4_0 block;
  block.d = f32_to_f16(d);
  for (int j = 0; j < 16; ++j) {
    block.qs[j] = static_cast<uint8_t>(level(values[j]) | level(values[j + 16]) << 4);
  }
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
