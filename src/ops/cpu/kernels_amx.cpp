// The kernels for AMX: those of AVX-512, with linear and its input as tiles take them. Compiled
// with those flags, so nothing else may be defined here.
#include "ops/cpu/amx_attention.h"
#include "ops/cpu/amx_bf16.h"
#include "ops/cpu/amx_int8.h"
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/kernels_table.h"

namespace donar::ops::cpu {
namespace {

void group_inputs(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                  bool to_bf16, std::byte* out) {
  if (to_bf16) {
    amx::group_bf16(x, x_stride, rows, k, padded, out);
  } else {
    group_floats<VecAvx512>(x, x_stride, rows, k, padded, to_bf16, out);
  }
}

template <quant::Format... kFormats>
constexpr void set_int8_tiles(Kernels& table) {
  ((table.linear_many[static_cast<size_t>(kFormats)] = amx::linear_int8_tiles<kFormats>), ...);
}

constexpr Kernels make_amx_kernels() {
  using quant::Format;
  Kernels table = make_kernels<VecAvx512>();
  table.round_int8 = amx::round_int8;
  table.group_floats = group_inputs;
  table.bf16_bytes = amx::kBf16RowBytes;
  table.linear[static_cast<size_t>(Format::kBF16)] = amx::linear_bf16;
  table.linear_two[static_cast<size_t>(Format::kBF16)] = amx::linear_bf16_two;
  table.linear_many[static_cast<size_t>(Format::kBF16)] = amx::linear_bf16_tiles;
  set_int8_tiles<Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0,
                 Format::kQ4_K, Format::kQ5_K, Format::kQ6_K>(table);
  table.attention = amx::attention;
  table.attention_split = amx::attention_split;
  return table;
}

}  // namespace

extern const Kernels kKernelsAmx;
constinit const Kernels kKernelsAmx = make_amx_kernels();
}  // namespace donar::ops::cpu
