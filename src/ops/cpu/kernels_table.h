// The table of one instruction set: every template of this folder for one Vec. Included by
// kernels_<isa>.cpp only.
#pragma once

#include "ops/cpu/attention_kernels.h"
#include "ops/cpu/linear_kernels.h"
#include "ops/cpu/row_kernels.h"

namespace donar::ops::cpu {

// Linear over a Vec; NEON has its own (neon/linear_neon.h).
template <class V>
struct VecLinear {
  static constexpr auto* kRoundInt8 = &round_int8<V>;
  static constexpr auto* kGroupFloats = &group_floats<V>;
  static constexpr int kBf16Bytes = 4;
  template <quant::Format kFormat>
  static constexpr auto* kTile = &linear_tile<V, kFormat>;
};

template <class V, class Linear = VecLinear<V>>
constexpr Kernels make_kernels() {
  using quant::Format;
  return {.round_int8 = Linear::kRoundInt8,
          .group_floats = Linear::kGroupFloats,
          .bf16_bytes = Linear::kBf16Bytes,
          .linear = {Linear::template kTile<Format::kF32>, Linear::template kTile<Format::kF16>,
                     Linear::template kTile<Format::kBF16>, Linear::template kTile<Format::kQ4_0>,
                     Linear::template kTile<Format::kQ4_1>, Linear::template kTile<Format::kQ5_0>,
                     Linear::template kTile<Format::kQ5_1>, Linear::template kTile<Format::kQ8_0>,
                     Linear::template kTile<Format::kQ4_K>, Linear::template kTile<Format::kQ5_K>,
                     Linear::template kTile<Format::kQ6_K>},
          .add_rms_norm = add_rms_norm<V>,
          .silu_mul = silu_mul<V>,
          .norm_rope = norm_rope<V>,
          .store_kv = store_kv<V>,
          .attention = attention<V>,
          .attention_begin = attention_begin<V>,
          .attention_split = attention_split<V>,
          .attention_merge = attention_merge<V>,
          .attention_end = attention_end<V>};
}

}  // namespace donar::ops::cpu
