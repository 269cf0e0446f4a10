// Q5_1: 32 values of five bits, a scale and a minimum.
#include <algorithm>
#include <cstring>

#include "quant/blocks.h"
#include "quant/fifth_bits.h"
#include "tensor/dtype.h"

namespace donar::quant {

void unpack_q5_1(const void* stored, float* values) {
  BlockQ5_1 block;
  std::memcpy(&block, stored, sizeof(block));
  uint8_t q[32];
  read_five_bits(block.qs, block.qh, q);
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (int j = 0; j < 32; ++j) values[j] = static_cast<float>(q[j]) * d + m;
}

void pack_q5_1(const float* values, void* stored) {
  const auto [low, high] = std::minmax_element(values, values + 32);
  const float minimum = *low;
  const float d = (*high - minimum) / 31.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  uint8_t q[32];
  for (int j = 0; j < 32; ++j)
    q[j] = static_cast<uint8_t>(
        std::clamp(static_cast<int>((values[j] - minimum) * inverse + 0.5f), 0, 31));
  BlockQ5_1 block;
  block.d = f32_to_f16(d);
  block.m = f32_to_f16(minimum);
  write_five_bits(q, block.qs, block.qh);
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
