// The table of one instruction set: every template of this folder for one Vec. Included by
// kernels_<isa>.cpp only.
#pragma once

#include "ops/cpu/attention_kernels.h"
#include "ops/cpu/linear_kernels.h"
#include "ops/cpu/row_kernels.h"

namespace donar::ops::cpu {

template <class V>
constexpr Kernels make_kernels() {
  using quant::Format;
  return {.round_int8 = round_int8<V>,
          .group_floats = group_floats<V>,
          .bf16_bytes = 4,
          .linear = {linear_tile<V, Format::kF32>, linear_tile<V, Format::kF16>,
                     linear_tile<V, Format::kBF16>, linear_tile<V, Format::kQ4_0>,
                     linear_tile<V, Format::kQ4_1>, linear_tile<V, Format::kQ5_0>,
                     linear_tile<V, Format::kQ5_1>, linear_tile<V, Format::kQ8_0>,
                     linear_tile<V, Format::kQ4_K>, linear_tile<V, Format::kQ5_K>,
                     linear_tile<V, Format::kQ6_K>},
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
