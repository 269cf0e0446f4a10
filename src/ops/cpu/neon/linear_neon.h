// One tile of linear for NEON: which micro-kernel takes a group of rows, and how many of the 16
// outputs at a time (the 32 registers hold the sums, the weights and the input).
#pragma once

#include "ops/cpu/linear_input.h"
#include "ops/cpu/neon/linear_float.h"
#include "ops/cpu/neon/linear_int8.h"
#include "ops/cpu/neon/linear_matrix.h"

namespace donar::ops::cpu::neon {

template <CpuIsa kIsa, Format kFormat, int R>
void linear_group(const LinearTile& t, int64_t row) {
  using V = VecNeon<kIsa>;
  if constexpr (input_kind(kFormat) == InputKind::kInt8) {
    if constexpr (kIsa == CpuIsa::kNeonI8mm && R > 1) {
      constexpr int kAtOnce = R == 8 ? 2 : 4;
      for (int quad = 0; quad < kQuads; quad += kAtOnce)
        linear_int8_matrix<kFormat, R, kAtOnce>(t, quad, row);
    } else {
      // Without dot products a sum takes two registers.
      constexpr int kAtOnce = R != 4 ? 4 : kIsa == CpuIsa::kNeon ? 1 : 2;
      for (int quad = 0; quad < kQuads; quad += kAtOnce)
        linear_int8<kIsa, kFormat, R, kAtOnce>(t, quad, row);
    }
  } else if constexpr (kIsa == CpuIsa::kNeonI8mm && kFormat == Format::kBF16) {
    if constexpr (R == 1) {
      linear_bf16_row<V>(t, row);
    } else {
      constexpr int kAtOnce = R == 8 ? 2 : 4;
      for (int quad = 0; quad < kQuads; quad += kAtOnce)
        linear_bf16_matrix<R, kAtOnce>(t, quad, row);
    }
  } else {
    constexpr int kAtOnce = R == 8 ? 1 : R == 4 ? 2 : 4;
    for (int quad = 0; quad < kQuads; quad += kAtOnce)
      linear_float<V, kFormat, R, kAtOnce>(t, quad, row);
  }
}

template <CpuIsa kIsa, Format kFormat>
void linear_tile(const LinearTile& t) {
  using V = VecNeon<kIsa>;
  for (int64_t row = 0; row < t.rows;) {
    const int rows = group_rows<V>(t.rows - row);
    switch (rows) {
      case 8:
        if constexpr (V::kMaxRows >= 8) linear_group<kIsa, kFormat, 8>(t, row);
        break;
      case 4:
        linear_group<kIsa, kFormat, 4>(t, row);
        break;
      case 2:
        linear_group<kIsa, kFormat, 2>(t, row);
        break;
      default:
        linear_group<kIsa, kFormat, 1>(t, row);
        break;
    }
    row += rows;
  }
}

// The entries of the table; see kernels_table.h.
template <CpuIsa kIsa>
struct Linear {
  using V = VecNeon<kIsa>;
  static constexpr auto* kRoundInt8 = &round_int8<V>;
  static constexpr auto* kGroupFloats = &group_floats<V>;
  static constexpr int kBf16Bytes = 4;
  template <Format kFormat>
  static constexpr auto* kTile = &linear_tile<kIsa, kFormat>;
  template <Format kFormat>
  static constexpr std::nullptr_t kTwo = nullptr;
};

#if defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
template <>
struct Linear<CpuIsa::kNeonI8mm> {
  static constexpr auto* kRoundInt8 = &round_int8_pairs<MatrixVec>;
  static constexpr auto* kGroupFloats = &group_floats_or_bf16<MatrixVec>;
  static constexpr int kBf16Bytes = 2;
  template <Format kFormat>
  static constexpr auto* kTile = &linear_tile<CpuIsa::kNeonI8mm, kFormat>;
  template <Format kFormat>
  static constexpr std::nullptr_t kTwo = nullptr;
};
#endif

}  // namespace donar::ops::cpu::neon
