// Q4_1: 32 values, a scale and a minimum.
#include <algorithm>
#include <cstring>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {

void unpack_q4_1(const void* stored, float* values) {
  BlockQ4_1 block;
  std::memcpy(&block, stored, sizeof(block));
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (int j = 0; j < 16; ++j) {
    values[j] = static_cast<float>(block.qs[j] & 15) * d + m;
    values[j + 16] = static_cast<float>(block.qs[j] >> 4) * d + m;
  }
}

void pack_q4_1(const float* values, void* stored) {
  const auto [low, high] = std::minmax_element(values, values + 32);
  const float minimum = *low;
  const float d = (*high - minimum) / 15.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  const auto level = [&](float value) {
    return static_cast<uint8_t>(
        std::clamp(static_cast<int>((value - minimum) * inverse + 0.5f), 0, 15));
  };
  BlockQ4_1 block;
  block.d = f32_to_f16(d);
  block.m = f32_to_f16(minimum);
  for (int j = 0; j < 16; ++j) {
    block.qs[j] = static_cast<uint8_t>(level(values[j]) | level(values[j + 16]) << 4);
  }
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
