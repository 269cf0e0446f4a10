// What the micro-kernels of linear share: prefetch, the grouping of input rows, the store of a
// tile.
#pragma once

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// Whether to ask for lines once more when they have come to L2. Processors with no more than AVX2
// bring them to L1 themselves, and their kernels, of twice the instructions, have no slots to
// spare: decoding is a tenth to a fifth faster without (Zen 3).
#if defined(__AVX2__) && !defined(__AVXVNNI__) && !defined(__AVX512F__)
constexpr bool kAskNear = false;
#else
constexpr bool kAskNear = true;
#endif

// Asks for weights ahead, into L2 and then into L1. Two tiles are long runs that come from memory;
// one is a short run, often from a cache, where farther ahead is 7 % faster. Always inline: a copy
// of its own might be linked from the file of another instruction set.
template <int kTiles, int kBytes>
[[gnu::always_inline]] inline void prefetch(const std::byte* at) {
  constexpr int kFar = kTiles == 1 ? 4096 : 2048;
  [[maybe_unused]] constexpr int kNear = kTiles == 1 ? 1024 : 512;
  if constexpr (kAskNear) {
    for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(at + kNear + i, 0, 3);
  }
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(at + kFar + i, 0, 2);
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

// Tiles of weights times R rows, all of K, turn about: two of them are two streams to memory. Sums
// is what a vector of a tile's outputs adds up, kSums of them from output `half` on: `add` takes a
// unit of K, `store` ends it.
template <class Sums, int kTiles, int kSums>
[[gnu::always_inline]] inline void add_units(const LinearTile* const (&tiles)[kTiles], int half,
                                             int64_t row) {
  Sums sums[kTiles][kSums];
  const std::byte* w[kTiles];
  for (int i = 0; i < kTiles; ++i) w[i] = tiles[i]->weights;
  const std::byte* x = tiles[0]->x + row * tiles[0]->x_row_bytes;
  for (int64_t k = 0; k < tiles[0]->k; k += Sums::kValues, x += Sums::kInputBytes) {
#pragma GCC unroll 2
    for (int i = 0; i < kTiles; ++i) {
#pragma GCC unroll 2
      for (int s = 0; s < kSums; ++s)
        sums[i][s].template add<kTiles>(w[i], half + s * Sums::kOutputs, x);
      w[i] += Sums::kBytes;
    }
  }
  for (int i = 0; i < kTiles; ++i) {
    for (int s = 0; s < kSums; ++s) sums[i][s].store(*tiles[i], half + s * Sums::kOutputs, row);
  }
}

// The Sums of formats with int8 input.
template <class V, int R>
class Int8Sums {
 public:
  static constexpr int kOutputs = V::kLanes;

  Int8Sums() {
    for (int r = 0; r < R; ++r) total_[r] = V::zero();
  }
  void store(const LinearTile& t, int half, int64_t row) { store_tile<V, R>(t, half, total_, row); }

 protected:
  typename V::F total_[R];
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
