// The table of one instruction set: every template of this folder for one Vec. Included by
// kernels_<isa>.cpp only.
#pragma once

#include <utility>

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
  template <quant::Format kFormat>
  static constexpr auto* kTwo = &linear_two<V, kFormat>;
};

template <class V, class Linear = VecLinear<V>>
constexpr Kernels make_kernels() {
  Kernels table = {.round_int8 = Linear::kRoundInt8,
                   .group_floats = Linear::kGroupFloats,
                   .bf16_bytes = Linear::kBf16Bytes,
                   .add_rms_norm = add_rms_norm<V>,
                   .silu_mul = silu_mul<V>,
                   .norm_rope = norm_rope<V>,
                   .store_kv = store_kv<V>,
                   .attention = attention<V>,
                   .attention_begin = attention_begin<V>,
                   .attention_split = attention_split<V>,
                   .attention_merge = attention_merge<V>,
                   .attention_end = attention_end<V>};
  const auto set = [&]<size_t... kFormats>(std::index_sequence<kFormats...>) {
    ((table.linear[kFormats] = Linear::template kTile<static_cast<quant::Format>(kFormats)>), ...);
    ((table.linear_two[kFormats] = Linear::template kTwo<static_cast<quant::Format>(kFormats)>),
     ...);
  };
  set(std::make_index_sequence<quant::kNumFormats>());
  return table;
}

}  // namespace donar::ops::cpu
