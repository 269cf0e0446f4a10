// Q5_K: 256 values of five bits in 8 runs with a scale and a minimum each.
#include <cstring>

#include "quant/k_blocks.h"

namespace donar::quant {

void unpack_q5_k(const void* stored, float* values) {
  BlockQ5_K block;
  std::memcpy(&block, stored, sizeof(block));
  KLevels levels{block.d, block.dmin, unpack_k_scales(block.scales), {}};
  read_run_nibbles(block.qs, levels.q);
  for (int i = 0; i < BlockQ5_K::kValues; ++i)
    levels.q[i] = static_cast<uint8_t>(levels.q[i] | (block.qh[i % 32] >> i / 32 & 1) << 4);
  k_values(levels, values);
}

void pack_q5_k(const float* values, void* stored) {
  const KLevels levels = find_k_levels(values, /*top=*/31);
  BlockQ5_K block{};
  block.d = levels.d;
  block.dmin = levels.dmin;
  pack_k_scales(levels.scales, block.scales);
  write_run_nibbles(levels.q, block.qs);
  for (int i = 0; i < BlockQ5_K::kValues; ++i)
    block.qh[i % 32] = static_cast<uint8_t>(block.qh[i % 32] | levels.q[i] >> 4 << i / 32);
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
