// Q8_0: 32 values as int8 with one scale.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {

void unpack_q8_0(const void* stored, float* values) {
  BlockQ8_0 block;
  std::memcpy(&block, stored, sizeof(block));
  const float d = f16_to_f32(block.d);
  for (int j = 0; j < 32; ++j) values[j] = static_cast<float>(block.qs[j]) * d;
}

void pack_q8_0(const float* values, void* stored) {
  float largest = 0;
  for (int j = 0; j < 32; ++j) largest = std::max(largest, std::fabs(values[j]));
  const float d = largest / 127.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  BlockQ8_0 block;
  block.d = f32_to_f16(d);
  for (int j = 0; j < 32; ++j) {
    const float level = std::clamp(std::round(values[j] * inverse), -127.0f, 127.0f);
    block.qs[j] = static_cast<int8_t>(level);
  }
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
