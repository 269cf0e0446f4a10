// The micro-kernels of linear over a Vec: one tile of 16 outputs times 1 to 8 input rows, all of K.
// Every output adds over K in one order whatever the number of rows: lanes are outputs, and the row
// count only decides how many sums are carried side by side.
#pragma once

#include <cstring>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// Bytes ahead that a single pass over the weights asks for: the stream of a decode step.
inline constexpr int kPrefetchBytes = 4096;

template <class V, int kBytes>
void prefetch(const std::byte* at) {
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(at + kPrefetchBytes + i, 0, 2);
}

// The size of the group that begins with `left` rows to go.
template <class V>
constexpr int group_rows(int64_t left) {
  return V::kMaxRows >= 8 && left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

template <class V, int R>
void store_tile(const LinearTile& t, int half, typename V::F (&total)[R], int64_t row) {
  const int valid = t.outputs - half;
  if (valid <= 0) return;
  for (int r = 0; r < R; ++r) {
    float* y = t.y + (row + r) * t.y_stride + half;
    if (valid >= V::kLanes) {
      V::store(y, t.bias ? V::add(total[r], V::load(t.bias + half)) : total[r]);
    } else {
      V::store_n(y, t.bias ? V::add(total[r], V::load_n(t.bias + half, valid)) : total[r], valid);
    }
  }
}

// The int8 rows of one block of a group.
template <class V, int R>
struct Int8Block {
  const std::byte* at;
  const int8_t* q(int r) const { return reinterpret_cast<const int8_t*>(at) + r * 32; }
  const Int8BlockMeta& meta(int r) const {
    return *reinterpret_cast<const Int8BlockMeta*>(at + R * 32 + r * int{sizeof(Int8BlockMeta)});
  }
};

template <class V, int R, bool kMin>
void linear_q4(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;
  constexpr int kPairBytes = kMin ? rows16::kQ4_1PairBytes : rows16::kQ4_0PairBytes;
  constexpr int kHeader = kPairBytes - 2 * rows16::kNibbleBlockBytes;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* w = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += rows16::kPair, w += kPairBytes) {
    if constexpr (R <= 2) prefetch<V, kPairBytes>(w);
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      const std::byte* bytes = w + kHeader + b * rows16::kNibbleBlockBytes + half * 4;
      typename V::N sum[R];
      for (int r = 0; r < R; ++r) sum[r] = V::begin_nibbles(kMin ? 0 : x.meta(r).offset[0]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const B both = V::load_bytes(bytes + j * rows16::kVectorBytes);
        const B low = V::low_nibbles(both);
        const B high = V::high_nibbles(both);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], low, x.q(r) + 8 * j);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = V::dot4_nibbles(sum[r], high, x.q(r) + 8 * j + 4);
      }
      const int scale = (b * rows16::kTileRows + half) * 2;
      const F d = V::load_f16(w + scale);
      for (int r = 0; r < R; ++r) {
        const I dot = V::end_nibbles(sum[r], kMin ? 0 : x.meta(r).offset[0]);
        total[r] = V::fma(V::mul(V::to_f32(dot), d), V::set1(x.meta(r).scale), total[r]);
      }
      if constexpr (kMin) {
        const F m = V::load_f16(w + rows16::kScaleBytes + scale);
        for (int r = 0; r < R; ++r) total[r] = V::fma(m, V::set1(x.meta(r).scaled_sum), total[r]);
      }
    }
  }
  store_tile<V, R>(t, half, total, row);
}

template <class V, int R>
void linear_q8_0(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* w = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += rows16::kPair, w += rows16::kQ8_0PairBytes) {
    if constexpr (R <= 2) prefetch<V, rows16::kQ8_0PairBytes>(w);
    for (int b = 0; b < 2; ++b, x.at += R * kInt8BlockBytes) {
      const std::byte* bytes = w + rows16::kScaleBytes + b * rows16::kByteBlockBytes + half * 4;
      I sum[R];
      for (int r = 0; r < R; ++r) {
        sum[r] = V::iset1(V::kUnsignedDot ? x.meta(r).offset[0] : 0);
      }
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const typename V::B q = V::load_bytes(bytes + j * rows16::kVectorBytes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = V::dot4_u8(sum[r], q, x.q(r) + 4 * j);
      }
      const F d = V::load_f16(w + (b * rows16::kTileRows + half) * 2);
      for (int r = 0; r < R; ++r) {
        total[r] = V::fma(V::mul(V::to_f32(sum[r]), d), V::set1(x.meta(r).scale), total[r]);
      }
    }
  }
  store_tile<V, R>(t, half, total, row);
}

template <class V, int R>
void linear_q6_k(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;
  F total[R];
  for (int r = 0; r < R; ++r) total[r] = V::zero();
  const std::byte* super = t.weights;
  Int8Block<V, R> x{t.x + row * t.x_row_bytes};
  for (int64_t k = 0; k < t.k; k += 256, super += rows16::kQ6KSuperBytes) {
    const F d = V::load_f16(super + half * 2);
    const std::byte* scales = super + 64 + half;
    const std::byte* bytes = super + rows16::kQ6KHeaderBytes + half * 4;
    if constexpr (R <= 2) prefetch<V, rows16::kQ6KHeaderBytes>(super);
    for (int b = 0; b < 8; ++b, bytes += rows16::kQ6KBlockBytes, x.at += R * kInt8BlockBytes) {
      if constexpr (R <= 2) prefetch<V, rows16::kQ6KBlockBytes>(bytes);
      F scaled[R];
#pragma GCC unroll 2
      for (int s = 0; s < 2; ++s) {  // 16 values under one scale: 4 groups, one vector of high bits
        I sum[R];
        for (int r = 0; r < R; ++r) sum[r] = V::iset1(x.meta(r).offset[s]);
        const B high = V::load_bytes(bytes + (4 + s) * rows16::kVectorBytes);
        const B q01 = V::load_bytes(bytes + (2 * s) * rows16::kVectorBytes);
        const B q23 = V::load_bytes(bytes + (2 * s + 1) * rows16::kVectorBytes);
        const B w0 = V::template with_high_bits<0>(V::low_nibbles(q01), high);
        const B w1 = V::template with_high_bits<1>(V::high_nibbles(q01), high);
        const B w2 = V::template with_high_bits<2>(V::low_nibbles(q23), high);
        const B w3 = V::template with_high_bits<3>(V::high_nibbles(q23), high);
        for (int r = 0; r < R; ++r) {
          const int8_t* q = x.q(r) + 16 * s;
          sum[r] =
              V::dot4(V::dot4(V::dot4(V::dot4(sum[r], w0, q), w1, q + 4), w2, q + 8), w3, q + 12);
        }
        const F scale = V::mul(d, V::load_i8(scales + (2 * b + s) * rows16::kTileRows));
        for (int r = 0; r < R; ++r) {
          scaled[r] = s == 0 ? V::mul(V::to_f32(sum[r]), scale)
                             : V::fma(V::to_f32(sum[r]), scale, scaled[r]);
        }
      }
      for (int r = 0; r < R; ++r) total[r] = V::fma(scaled[r], V::set1(x.meta(r).scale), total[r]);
    }
  }
  store_tile<V, R>(t, half, total, row);
}

// Float formats carry two sums, over even and odd values of k, to hide the latency of the
// additions.
template <class V, int R, quant::Format kFormat>
void linear_float(const LinearTile& t, int half, int64_t row) {
  using F = typename V::F;
  constexpr int kBytes = kFormat == quant::Format::kF32 ? 4 : 2;
  constexpr int kStep = 2 * rows16::kTileRows * kBytes;  // two values of k
  F even[R], odd[R];
  for (int r = 0; r < R; ++r) even[r] = odd[r] = V::zero();
  // Pairs of bf16 lie in one 32-bit word per row; the other formats have a vector per value.
  const std::byte* w = t.weights + half * (kFormat == quant::Format::kBF16 ? 4 : kBytes);
  const auto* x = reinterpret_cast<const float*>(t.x + row * t.x_row_bytes);
#pragma GCC unroll 2
  for (int64_t k = 0; k < t.k; k += 2, w += kStep, x += 2 * R) {
    if constexpr (R <= 2) prefetch<V, kStep>(w);
    F w0, w1;
    if constexpr (kFormat == quant::Format::kF32) {
      w0 = V::load(reinterpret_cast<const float*>(w));
      w1 = V::load(reinterpret_cast<const float*>(w) + rows16::kTileRows);
    } else if constexpr (kFormat == quant::Format::kF16) {
      w0 = V::load_f16(w);
      w1 = V::load_f16(w + kStep / 2);
    } else {
      const typename V::B pairs = V::load_bytes(w);
      w0 = V::first_bf16(pairs);
      w1 = V::second_bf16(pairs);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) even[r] = V::fma(w0, V::set1(x[r]), even[r]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) odd[r] = V::fma(w1, V::set1(x[R + r]), odd[r]);
  }
  for (int r = 0; r < R; ++r) even[r] = V::add(even[r], odd[r]);
  store_tile<V, R>(t, half, even, row);
}

template <class V, quant::Format kFormat, int R>
void linear_rows(const LinearTile& t, int half, int64_t row) {
  using quant::Format;
  if constexpr (input_kind(kFormat) != InputKind::kInt8) linear_float<V, R, kFormat>(t, half, row);
  if constexpr (kFormat == Format::kQ4_0) linear_q4<V, R, false>(t, half, row);
  if constexpr (kFormat == Format::kQ4_1) linear_q4<V, R, true>(t, half, row);
  if constexpr (kFormat == Format::kQ8_0) linear_q8_0<V, R>(t, half, row);
  if constexpr (kFormat == Format::kQ6_K) linear_q6_k<V, R>(t, half, row);
}

// One tile times all rows of a row block, group by group.
template <class V, quant::Format kFormat>
void linear_tile(const LinearTile& t) {
  for (int64_t row = 0; row < t.rows;) {
    const int rows = group_rows<V>(t.rows - row);
    for (int half = 0; half < rows16::kTileRows; half += V::kLanes) {
      switch (rows) {
        case 8:
          if constexpr (V::kMaxRows >= 8) linear_rows<V, kFormat, 8>(t, half, row);
          break;
        case 4:
          linear_rows<V, kFormat, 4>(t, half, row);
          break;
        case 2:
          linear_rows<V, kFormat, 2>(t, half, row);
          break;
        default:
          linear_rows<V, kFormat, 1>(t, half, row);
          break;
      }
    }
    row += rows;
  }
}

// One block of 32 values to int8: symmetric, round to nearest even.
template <class V>
void round_block(const float* x, int n, int offset, bool halves, int8_t* q, Int8BlockMeta& meta) {
  using F = typename V::F;
  constexpr int kVectors = 32 / V::kLanes;
  F v[kVectors];
  F largest = V::zero();
  for (int i = 0; i < kVectors; ++i) {
    const int left = n - i * V::kLanes;
    v[i] = left >= V::kLanes ? V::load(x + i * V::kLanes)
                             : V::load_n(x + i * V::kLanes, left > 0 ? left : 0);
    largest = V::max(largest, V::abs(v[i]));
  }
  const float extreme = V::reduce_max(largest);
  const F inverse = V::set1(extreme > 0.0f ? 127.0f / extreme : 0.0f);
  for (int i = 0; i < kVectors; ++i) v[i] = V::mul(v[i], inverse);
  int32_t sums[2];
  V::store_block_i8(q, v, sums);
  meta.scale = extreme / 127.0f;
  meta.scaled_sum = meta.scale * static_cast<float>(sums[0] + sums[1]);
  meta.offset[0] = -offset * (halves ? sums[0] : sums[0] + sums[1]);
  meta.offset[1] = halves ? -offset * sums[1] : 0;
}

template <class V>
void round_int8(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                int offset, bool halves, std::byte* out) {
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    for (int64_t b = 0; b < padded; b += 32) {
      const int n = static_cast<int>(k - b < 32 ? (k > b ? k - b : 0) : 32);
      for (int r = 0; r < group; ++r) {
        Int8BlockMeta meta;
        round_block<V>(x + (row + r) * x_stride + b, n, offset, halves,
                       reinterpret_cast<int8_t*>(out) + r * 32, meta);
        std::memcpy(out + group * 32 + r * int{sizeof(meta)}, &meta, sizeof(meta));
      }
      out += group * kInt8BlockBytes;
    }
    row += group;
  }
}

template <class V>
void group_floats(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                  bool to_bf16, std::byte* out) {
  auto* to = reinterpret_cast<float*>(out);
  for (int64_t row = 0; row < rows;) {
    const int group = group_rows<V>(rows - row);
    for (int r = 0; r < group; ++r) {
      const float* from = x + (row + r) * x_stride;
      for (int64_t i = 0; i < padded; i += V::kLanes) {
        const int left = static_cast<int>(k - i < V::kLanes ? (k > i ? k - i : 0) : V::kLanes);
        typename V::F v = V::load_n(from + i, left);
        if (to_bf16) v = V::round_bf16(v);
        float values[V::kLanes];
        V::store(values, v);
        const int count = static_cast<int>(padded - i < V::kLanes ? padded - i : V::kLanes);
        for (int j = 0; j < count; ++j) to[(i + j) * group + r] = values[j];
      }
    }
    to += group * padded;
    row += group;
  }
}

}  // namespace donar::ops::cpu
