// What Q4_K and Q5_K share: 256 values as 8 runs of 32 levels, each with a scale and a minimum.
#pragma once

#include <cstdint>

#include "quant/blocks.h"

namespace donar::quant {

struct KLevels {
  uint16_t d;     // f16
  uint16_t dmin;  // f16
  KScales scales;
  uint8_t q[256];
};

// Levels 0..top of least squared error, large values weighing more.
KLevels find_k_levels(const float* values, int top);
void k_values(const KLevels& levels, float* values);

// Runs 2c and 2c + 1 as the low and the high nibbles of 32 bytes; bits above are left out.
void read_run_nibbles(const uint8_t* qs, uint8_t* q);
void write_run_nibbles(const uint8_t* q, uint8_t* qs);

}  // namespace donar::quant
