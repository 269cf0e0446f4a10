// How Q5_0 and Q5_1 store 32 values of five bits: value j is the low nibble of byte j, value j + 16
// the high one; bit j of qh is the fifth bit of value j.
#pragma once

#include <cstdint>

namespace donar::quant {

inline void read_five_bits(const uint8_t* qs, const uint8_t* qh, uint8_t* q) {
  for (int j = 0; j < 32; ++j) {
    const int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
    q[j] = static_cast<uint8_t>(low | (qh[j / 8] >> j % 8 & 1) << 4);
  }
}

inline void write_five_bits(const uint8_t* q, uint8_t* qs, uint8_t* qh) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
  for (int i = 0; i < 4; ++i) {
    qh[i] = 0;
    for (int j = 0; j < 8; ++j) qh[i] = static_cast<uint8_t>(qh[i] | (q[8 * i + j] >> 4 & 1) << j);
  }
}

}  // namespace donar::quant
