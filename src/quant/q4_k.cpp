// Q4_K: 256 values of four bits in 8 runs with a scale and a minimum each.
#include <cstring>

#include "quant/k_blocks.h"

namespace donar::quant {

void unpack_q4_k(const void* stored, float* values) {
  BlockQ4_K block;
  std::memcpy(&block, stored, sizeof(block));
  KLevels levels{block.d, block.dmin, unpack_k_scales(block.scales), {}};
  read_run_nibbles(block.qs, levels.q);
  k_values(levels, values);
}

void pack_q4_k(const float* values, void* stored) {
  const KLevels levels = find_k_levels(values, /*top=*/15);
  BlockQ4_K block;
  block.d = levels.d;
  block.dmin = levels.dmin;
  pack_k_scales(levels.scales, block.scales);
  write_run_nibbles(levels.q, block.qs);
  std::memcpy(stored, &block, sizeof(block));
}

}  // namespace donar::quant
