// Q5_0: 32 values of five bits, one scale, no minimum.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/blocks.h"
#include "quant/fifth_bits.h"
#include "tensor/dtype.h"

namespace donar::quant {

void unpack_q5_0(const void* stored, float* values) {
  BlockQ5_0 block;
  std::memcpy(&block, stored, sizeof(block));
  uint8_t q[32];
  read_five_bits(block.qs, block.qh, q);
  const float d = f16_to_f32(block.d);
  for (int j = 0; j < 32; ++j) values[j] = static_cast<float>(q[j] - 16) * d;
}

// As in Q4_0 the value of largest magnitude takes the longer side of the range: -16.
void pack_q5_0(const float* values, void* stored) {
  float extreme = 0;
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(values[j]) > std::fabs(extreme)) extreme = values[j];
  }
  const float d = extreme / -16.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  uint8_t q[32];
  for (int j = 0; j < 32; ++j)
    q[j] = static_cast<uint8_t>(std::clamp(static_cast<int>(values[j] * inverse + 16.5f), 0, 31));
  BlockQ5_0 block;
  block.d = f32_to_f16(d);
  write_five_bits(q, block.qs, block.qh);
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
