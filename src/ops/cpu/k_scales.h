// Scales and minimums of Q4_K and Q5_K in layout kRows16, as floats of a vector's rows.
#pragma once

#include "ops/cpu/common/rows16.h"

namespace donar::ops::cpu {

// Of one superblock, block by block. `super` is its start, `half` the first of the rows.
template <class V>
class KScales {
 public:
  using F = typename V::F;
  using B = typename V::B;

  [[gnu::always_inline]] KScales(const std::byte* super, int half)
      : d_(V::load_f16(super + half * 2)),
        minus_dmin_(V::sub(V::zero(), V::load_f16(super + 32 + half * 2))) {
    // Four scales or minimums to a lane's word: blocks 0 to 3, then 4 to 7.
    const std::byte* words = super + 64 + half * 4;
    first_ = V::load_bytes(words);
    second_ = V::load_bytes(words + rows16::kVectorBytes);
    third_ = V::load_bytes(words + 2 * rows16::kVectorBytes);
    scales_ = V::template with_high_bits<2>(V::low_nibbles(first_), first_);
    mins_ = V::template with_high_bits<2>(V::low_nibbles(second_), second_);
  }

  // Block b, from 0 to 7 in turn: d * scale, and -dmin * min.
  [[gnu::always_inline]] void next(int b, F& scale, F& min) {
    if (b == 4) {
      scales_ = V::template with_high_bits<3>(V::low_nibbles(third_), first_);
      mins_ = V::template with_high_bits<3>(V::high_nibbles(third_), second_);
    }
    scale = V::mul(d_, V::first_byte(scales_));
    min = V::mul(minus_dmin_, V::first_byte(mins_));
    scales_ = V::next_bytes(scales_);
    mins_ = V::next_bytes(mins_);
  }

 private:
  F d_, minus_dmin_;
  B first_, second_, third_;
  B scales_, mins_;  // of block b and those after it in the lowest bytes
};

}  // namespace donar::ops::cpu
