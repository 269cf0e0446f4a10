// Micro-kernels of linear with 2 x 2 matrix products (i8mm, bf16): two outputs times two input rows
// to a register. A row's terms and their order are those of the kernels that take rows one by one,
// so its bits are too.
#pragma once

#include "ops/cpu/linear_input.h"
#include "ops/cpu/neon/linear_int8.h"

namespace donar::ops::cpu::neon {

#if defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)

using MatrixVec = VecNeon<CpuIsa::kNeonI8mm>;

// A block of R >= 2 rows: [R / 2 pairs][4][2 rows][8 k] int8, then scales, scaled sums and offset
// terms as [R] each. As long as Int8BlockMeta says.
template <class V, int R>
struct RowPairs {
  const std::byte* at;
  int8x16_t q(int pair, int eight) const {
    return vld1q_s8(reinterpret_cast<const int8_t*>(at) + (pair * 4 + eight) * 16);
  }
  // A value of two rows, as the lanes of a 2 x 2 register: row, next row, row, next row.
  template <class T>
  T lanes(int field, int pair) const {
    int64_t two;
    std::memcpy(&two, at + R * 32 + (field * R + pair * 2) * 4, sizeof(two));
    return std::bit_cast<T>(vdupq_n_s64(two));
  }
  float32x4_t scale(int pair) const { return lanes<float32x4_t>(0, pair); }
  float32x4_t scaled_sum(int pair) const { return lanes<float32x4_t>(1, pair); }
  int32x4_t offset(int section, int pair) const { return lanes<int32x4_t>(2 + section, pair); }
};

// Values of four outputs, as the lanes of two 2 x 2 registers.
struct OutputPairs {
  float32x4_t of[2];
};
template <class V>
OutputPairs output_pairs(float32x4_t x) {
  return {{vzip1q_f32(x, x), vzip2q_f32(x, x)}};
}

// [Q quads][2 pairs of outputs][row pairs] -> rows.
template <class V, int R, int Q>
[[gnu::always_inline]] inline void store_matrix(const LinearTile& t, int quad, int64_t row,
                                                const float32x4_t (&total)[Q][2][R / 2]) {
  float32x4_t rows[Q][R];
  repeat<Q>([&](auto q) {
    repeat<R / 2>([&](auto p) {
      rows[q][2 * p] = vuzp1q_f32(total[q][0][p], total[q][1][p]);
      rows[q][2 * p + 1] = vuzp2q_f32(total[q][0][p], total[q][1][p]);
    });
  });
  store_sums<V, R, Q>(t, quad, row, rows);
}

template <int R, int Q>
void clear(float32x4_t (&total)[Q][2][R / 2]) {
  repeat<Q>([&](auto q) {
    repeat<R / 2>([&](auto p) { total[q][0][p] = total[q][1][p] = vdupq_n_f32(0); });
  });
}

// The next quad reads the input again: kept over quads it would push the sums out of the registers.
template <class V>
[[gnu::always_inline]] inline void forget_loads() {
  asm volatile("" ::: "memory");
}

template <Format kFormat, int R, int Q>
[[gnu::flatten]] void linear_int8_matrix(const LinearTile& t, int quad, int64_t row) {
  using V = MatrixVec;
  constexpr CpuIsa kIsa = CpuIsa::kNeonI8mm;
  constexpr int kPairs = 4 / num_sections(kFormat);
  float32x4_t total[Q][2][R / 2];
  clear<R, Q>(total);
  const std::byte* unit = t.weights;
  RowPairs<V, R> rows{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += unit_blocks(kFormat) * rows16::kBlock) {
    if constexpr (R <= 2) prefetch<1, header_bytes(kFormat)>(unit);
    const UnitScales<V, kFormat> scales(unit);
    const std::byte* block = unit + header_bytes(kFormat);
    for (int b = 0; b < unit_blocks(kFormat); ++b) {
      if constexpr (R <= 2) prefetch<1, block_bytes(kFormat)>(block);
      repeat<Q>([&](auto q) {
        float32x4_t scaled[2][R / 2];
        repeat<num_sections(kFormat)>([&](auto section) {
          int32x4_t sum[2][R / 2];
          repeat<R / 2>([&](auto p) {
            sum[0][p] = sum[1][p] =
                kHasOffset<kIsa, kFormat> ? rows.offset(section, p) : vdupq_n_s32(0);
          });
          repeat<kPairs>([&](auto i) {
            constexpr int kPair = section * kPairs + i;
            const GroupPair w = load_weights<kIsa, kFormat, kPair>(block, quad + q);
            const uint32x4_t even = vreinterpretq_u32_u8(w.even);
            const uint32x4_t odd = vreinterpretq_u32_u8(w.odd);
            // [2 outputs][8 k] each.
            const uint8x16_t first = vreinterpretq_u8_u32(vzip1q_u32(even, odd));
            const uint8x16_t second = vreinterpretq_u8_u32(vzip2q_u32(even, odd));
            repeat<R / 2>([&](auto p) {
              const int8x16_t x = rows.q(p, kPair);
              sum[0][p] = vusmmlaq_s32(sum[0][p], first, x);
              sum[1][p] = vusmmlaq_s32(sum[1][p], second, x);
            });
          });
          const OutputPairs scale = output_pairs<V>(scales.scale(b, section, quad + q));
          repeat<2>([&](auto o) {
            repeat<R / 2>([&](auto p) {
              const float32x4_t dot = vcvtq_f32_s32(sum[o][p]);
              scaled[o][p] = section == 0 ? vmulq_f32(dot, scale.of[o])
                                          : vfmaq_f32(scaled[o][p], dot, scale.of[o]);
            });
          });
        });
        repeat<R / 2>([&](auto p) {
          const float32x4_t scale = rows.scale(p);
          repeat<2>(
              [&](auto o) { total[q][o][p] = vfmaq_f32(total[q][o][p], scaled[o][p], scale); });
        });
        if constexpr (has_min(kFormat)) {
          const OutputPairs min = output_pairs<V>(scales.min(b, quad + q));
          repeat<R / 2>([&](auto p) {
            const float32x4_t sum = rows.scaled_sum(p);
            repeat<2>([&](auto o) { total[q][o][p] = vfmaq_f32(total[q][o][p], min.of[o], sum); });
          });
        }
        if constexpr (R > 2) forget_loads<V>();
      });
      block += block_bytes(kFormat);
      rows.at += R * kInt8BlockBytes;
    }
    unit = block;
  }
  store_matrix<V, R, Q>(t, quad, row, total);
}

// A block of 32, of which n values exist, to int8.
template <class V>
void round_block(const float* x, int64_t n, int offset, bool halves, int8_t* q,
                 Int8BlockMeta& meta) {
  typename V::F v[32 / V::kLanes];
  load_block<V>(x, n, v);
  const float extreme = V::reduce_max(largest_of<V>(v));
  store_block<V>(v, extreme > 0.0f ? 127.0f / extreme : 0.0f, extreme / 127.0f, offset, halves, q,
                 meta);
}

// The input that these kernels read: groups of one row as the other instruction sets have them.
template <class V>
void round_int8_pairs(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                      int offset, bool halves, std::byte* out) {
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    if (group == 1) {
      round_int8<V>(x + row * x_stride, x_stride, 1, k, padded, offset, halves, out);
      return;
    }
    for (int64_t b = 0; b < padded; b += 32) {
      for (int r = 0; r < group; ++r) {
        int8_t q[32];
        Int8BlockMeta meta;
        round_block<V>(x + (row + r) * x_stride + b, k - b, offset, halves, q, meta);
        for (int i = 0; i < 4; ++i)
          std::memcpy(out + ((r / 2 * 4 + i) * 2 + r % 2) * 8, q + i * 8, 8);
        const auto put = [&](int field, auto value) {
          std::memcpy(out + group * 32 + (field * group + r) * 4, &value, 4);
        };
        put(0, meta.scale);
        put(1, meta.scaled_sum);
        put(2, meta.offset[0]);
        put(3, meta.offset[1]);
      }
      out += group * kInt8BlockBytes;
    }
    row += group;
  }
}

// bfloat16 weights times bfloat16 input: [k / 4][rows][4 k]. bfdot and bfmmla add the same products
// in the same order: k and k + 1, then k + 2 and k + 3, to the sum.
template <class V>
bfloat16x8_t load_bf16x8(const std::byte* p) {
  return vreinterpretq_bf16_u8(load_bytes<V>(p));
}

template <int R, int Q>
[[gnu::flatten]] void linear_bf16_matrix(const LinearTile& t, int quad, int64_t row) {
  using V = MatrixVec;
  float32x4_t total[Q][2][R / 2];
  clear<R, Q>(total);
  const std::byte* w = t.weights + quad * 16;
  const std::byte* x = t.x + row * t.x_row_bytes;
  for (int64_t k = 0; k < t.k; k += 4, w += 2 * rows16::kVectorBytes, x += R * 8) {
    if constexpr (R <= 2) prefetch<1, 2 * rows16::kVectorBytes>(w);
    bfloat16x8_t in[R / 2];
    repeat<R / 2>([&](auto p) { in[p] = load_bf16x8<V>(x + p * 16); });
    repeat<Q>([&](auto q) {
      const std::byte* at = w + q * 16;
      const uint32x4_t even = vreinterpretq_u32_u8(load_bytes<V>(at));
      const uint32x4_t odd = vreinterpretq_u32_u8(load_bytes<V>(at + rows16::kVectorBytes));
      const bfloat16x8_t first = vreinterpretq_bf16_u32(vzip1q_u32(even, odd));
      const bfloat16x8_t second = vreinterpretq_bf16_u32(vzip2q_u32(even, odd));
      repeat<R / 2>([&](auto p) {
        total[q][0][p] = vbfmmlaq_f32(total[q][0][p], first, in[p]);
        total[q][1][p] = vbfmmlaq_f32(total[q][1][p], second, in[p]);
      });
    });
  }
  store_matrix<V, R, Q>(t, quad, row, total);
}

// One row, all 16 outputs.
template <class V>
[[gnu::flatten]] void linear_bf16_row(const LinearTile& t, int64_t row) {
  float32x4_t total[kQuads][1];
  repeat<kQuads>([&](auto q) { total[q][0] = vdupq_n_f32(0); });
  const std::byte* w = t.weights;
  const std::byte* x = t.x + row * t.x_row_bytes;
  for (int64_t k = 0; k < t.k; k += 8, w += 4 * rows16::kVectorBytes, x += 16) {
    prefetch<1, 4 * rows16::kVectorBytes>(w);
    const bfloat16x8_t in = load_bf16x8<V>(x);
    repeat<4>([&](auto lane) {
      repeat<kQuads>([&](auto q) {
        const bfloat16x8_t pairs = load_bf16x8<V>(w + lane * rows16::kVectorBytes + q * 16);
        total[q][0] = vbfdotq_laneq_f32(total[q][0], pairs, in, lane);
      });
    });
  }
  store_sums<V, 1, kQuads>(t, 0, row, total);
}

template <class V>
void group_floats_or_bf16(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                          bool to_bf16, std::byte* out) {
  if (!to_bf16) return group_floats<V>(x, x_stride, rows, k, padded, false, out);
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    for (int r = 0; r < group; ++r) {
      const float* from = x + (row + r) * x_stride;
      for (int64_t i = 0; i < padded; i += 8) {
        const int left = static_cast<int>(k - i < 8 ? (k > i ? k - i : 0) : 8);
        uint16_t bits[8];
        V::store_bf16_n(bits, V::load_n(from + i, left), 8);
        std::memcpy(out + (i / 4 * group + r) * 8, bits, 8);
        std::memcpy(out + ((i / 4 + 1) * group + r) * 8, bits + 4, 8);
      }
    }
    out += group * padded * 2;
    row += group;
  }
}

#endif

}  // namespace donar::ops::cpu::neon
