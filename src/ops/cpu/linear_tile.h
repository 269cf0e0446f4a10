// What the micro-kernels of linear share: prefetch, the grouping of input rows, the store of a
// tile.
#pragma once

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// Bytes ahead that a pass over the weights asks for: into L2, then into L1.
inline constexpr int kPrefetchBytes = 4096;
inline constexpr int kPrefetchNearBytes = 1024;

template <class V, int kBytes>
void prefetch(const std::byte* at) {
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(at + kPrefetchNearBytes + i, 0, 3);
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

// Adds the dots of a block whose scales, and with kMin minimums, stand in front of its pair.
template <class V, int R, bool kMin>
[[gnu::always_inline]] inline void add_scaled(const std::byte* scale, const typename V::I (&dot)[R],
                                              const Int8Block<V, R>& x, typename V::F (&total)[R]) {
  const typename V::F d = V::load_f16(scale);
  for (int r = 0; r < R; ++r)
    total[r] = V::fma(V::mul(V::to_f32(dot[r]), d), V::set1(x.meta(r).scale), total[r]);
  if constexpr (kMin) {
    const typename V::F m = V::load_f16(scale + rows16::kScaleBytes);
    for (int r = 0; r < R; ++r) total[r] = V::fma(m, V::set1(x.meta(r).scaled_sum), total[r]);
  }
}

}  // namespace donar::ops::cpu
