// The loading warps of an attention CTA: one keeps the ring of keys and values full, over the
// borders of units, the other brings queries.
#pragma once

#include "ops/cuda/paged_attention_units.cuh"

namespace donar::ops::cuda {

// The units of this CTA, one after the other, found by a warp 32 at a time. Items and counts come
// with the step's copy: they may be read before the wait for the kernel before.
template <class C>
class UnitStream {
 public:
  __device__ __forceinline__ UnitStream(const PagedAttentionParams& params, int item_tile)
      : params_(params), tiles_(max_tiles<C>(params, item_tile)) {
    order_.num_units = *params.count * params.kv_heads * tiles_;
    rounds_ = order_.rounds();
  }

  // The whole warp; false after the last.
  __device__ __forceinline__ bool next(AttentionUnit& unit) {
    const int lane = threadIdx.x % 32;
    while (pending_ == 0) {
      if (round_ >= rounds_) return false;
      const int index = order_.unit(round_ + lane);
      const bool found = round_ + lane < rounds_ && index < order_.num_units &&
                         make_unit<C>(params_, index, tiles_, mine_);
      pending_ = __ballot_sync(0xffffffff, found);
      round_ += 32;
    }
    const int source = __ffs(static_cast<int>(pending_)) - 1;
    pending_ &= pending_ - 1;
    const auto given = [&](int value) { return __shfl_sync(0xffffffff, value, source); };
    unit.num_rows = given(mine_.num_rows);
    unit.row_begin = given(mine_.row_begin);
    unit.position = given(mine_.position);
    unit.sequence = given(mine_.sequence);
    unit.head = given(mine_.head);
    unit.tile = given(mine_.tile);
    unit.key_begin = given(mine_.key_begin);
    unit.key_end = given(mine_.key_end);
    unit.chunk = given(mine_.chunk);
    unit.split = given(mine_.split);
    unit.num_splits = given(mine_.num_splits);
    unit.num_units = given(mine_.num_units);
    unit.partial = given(mine_.partial);
    unit.counter = given(mine_.counter);
    return true;
  }

 private:
  const PagedAttentionParams& params_;
  const int tiles_;
  UnitOrder order_{};
  int rounds_ = 0, round_ = 0;
  unsigned pending_ = 0;  // lanes whose unit has not been given yet
  AttentionUnit mine_{};  // this lane's
};

// Queries of one unit after the other, and the unit itself for the computing warps.
template <class C>
struct QueryLoader {
  using S = AttentionShared<C>;
  const PagedAttentionParams& params;
  const S shape;
  const uint32_t shared;
  const int lane;
  RingCursor slot;

  // Zeros for what is not there.
  template <int kBytes>
  __device__ __forceinline__ void copy_queries(const AttentionUnit& unit, uint32_t to) {
    constexpr int kPieces = C::kDims * 2 / kBytes;  // of a tile row
    constexpr int kAcross = kPieces < 32 ? kPieces : 32;
    constexpr int kStep = 32 / kAcross;
    const int group = params.q_heads / params.kv_heads;
#pragma unroll 1
    for (int d = lane % kAcross * (kBytes / 2); d < C::kDims; d += kAcross * (kBytes / 2)) {
      int row = (unit.tile + lane / kAcross) / group, head = (unit.tile + lane / kAcross) % group;
#pragma unroll 4
      for (int m = lane / kAcross; m < C::kTile; m += kStep) {
        const bool valid = row < unit.num_rows && d < params.head_dim;
        const int64_t from =
            (int64_t{unit.row_begin + row} * params.q_heads + unit.head * group + head) *
                params.head_dim +
            d;
        copy_async<kBytes>(to + static_cast<uint32_t>(tiled_offset(m, d, C::kTile)) * 2,
                           static_cast<const uint16_t*>(params.q) + (valid ? from : 0), valid);
        head += kStep;
        while (head >= group) head -= group, ++row;
      }
    }
  }

  __device__ __forceinline__ void publish(const AttentionUnit& unit) {
    barrier_wait(shared + shape.unit_empty() + slot.at * 8, slot.parity ^ 1);
    if (unit.num_rows > 0) {
      const uint32_t to = shared + shape.queries() + slot.at * S::kQueryBytes;
      if (params.head_dim % 8 == 0) {
        copy_queries<16>(unit, to);
      } else {
        copy_queries<4>(unit, to);
      }
    }
    const uint32_t barrier = shared + shape.unit_full() + slot.at * 8;
    barrier_arrive_after_copies(barrier);
    if (lane == 0) {
      const uint32_t at = shared + shape.units() + slot.at * S::kUnitBytes;
      const int words[kUnitInts] = {unit.num_rows, unit.row_begin, unit.position,   unit.sequence,
                                    unit.head,     unit.tile,      unit.key_begin,  unit.key_end,
                                    unit.chunk,    unit.split,     unit.num_splits, unit.num_units,
                                    unit.partial,  unit.counter};
#pragma unroll
      for (int i = 0; i < kUnitInts; ++i) store_shared(at + i * 4, static_cast<uint32_t>(words[i]));
      barrier_arrive(barrier);
    }
    slot.advance(1, shape.num_slots);
  }

  __device__ __forceinline__ void run(int item_tile) {
    UnitStream<C> units(params, item_tile);
    AttentionUnit unit;
    bool more = units.next(unit);
    pdl_wait();
    for (; more; more = units.next(unit)) publish(unit);
    publish(AttentionUnit{});
  }
};

// Keys and values of one unit after the other.
template <class C>
struct KeyLoader {
  using S = AttentionShared<C>;
  const PagedAttentionParams& params;
  const S shape;
  const uint32_t shared;
  const int lane;
  RingCursor stage;
  int ids = 0;  // of block ids_first + lane of the unit's sequence
  int ids_first = 0;

  __device__ __forceinline__ bool uses_bulk_copies() const {
#if __CUDA_ARCH__ >= 900
    return params.head_dim % kTileK == 0;
#else
    return false;
#endif
  }

  __device__ __forceinline__ int read_id(const AttentionUnit& unit, int block) const {
    return block * kCacheBlockTokens < unit.key_end
               ? params.block_tables[unit.sequence * params.table_stride + block]
               : 0;
  }
  __device__ __forceinline__ void read_ids(const AttentionUnit& unit, int first_block) {
    ids_first = first_block;
    ids = read_id(unit, first_block + lane);
  }

  __device__ __forceinline__ const uint8_t* matrix(int block, int is_value, int head) const {
    const int64_t elements = int64_t{kCacheBlockTokens} * params.head_dim;
    return static_cast<const uint8_t*>(params.cache) +
           ((int64_t{block} * 2 + is_value) * params.kv_heads + head) * elements * 2;
  }

#if __CUDA_ARCH__ >= 900
  // Whole blocks [first, end) into stages of one block, a lane a block: each as soon as its stage
  // is free. `ids` are those of the first 32.
  __device__ __forceinline__ void load_blocks(const AttentionUnit& unit, int first, int end) {
    const uint32_t bytes = static_cast<uint32_t>(kCacheBlockTokens * params.head_dim * 2);
    const int at_once = min(shape.num_stages, 32);  // a stage is not asked for twice
    while (first < end) {
      const int count = min(end - first, at_once);
      const int next_id = read_id(unit, first + at_once + lane);
      RingCursor mine = stage;
      if (lane < count) mine.advance(lane, shape.num_stages);
      const uint32_t empty = shared + shape.empty() + mine.at * 8;
      const uint32_t full = shared + shape.full() + mine.at * 8;
      const uint32_t to = shared + mine.at * S::kStageBytes;
      const uint8_t* keys = matrix(ids, /*is_value=*/0, unit.head);
      const uint8_t* values = keys + int64_t{bytes} * params.kv_heads;
      bool pending = lane < count;
      while (true) {
        const bool free = pending && barrier_test(empty, mine.parity ^ 1);
        if (free) {
          mbarrier_arrive_expect_tx(full, 2 * bytes);
          bulk_copy(to, keys, bytes, full);
          bulk_copy(to + S::kMatrixBytes, values, bytes, full);
          pending = false;
        }
        if (!__any_sync(0xffffffff, pending)) break;
        if (!__any_sync(0xffffffff, free)) __nanosleep(40);
      }
      stage.advance(count, shape.num_stages);
      first += count;
      if (count == at_once) ids = next_id, ids_first = first;
    }
  }
#endif

  // Keys and values [first_key, + kStageKeys) as far as the unit reads them. Rows of values that it
  // does not read are zero: their weights are 0, and 0 times what happens to lie there need not be.
  __device__ __forceinline__ void load_stage(const AttentionUnit& unit, int first_key) {
    constexpr int kBlocks = C::kStageKeys / kCacheBlockTokens;
    const int last_block = (min(unit.key_end, first_key + C::kStageKeys) - 1) / kCacheBlockTokens;
    const int first_block = max(unit.key_begin, first_key) / kCacheBlockTokens;
    if (last_block >= ids_first + 32) read_ids(unit, first_block);
    const uint32_t to = shared + stage.at * S::kStageBytes;
    const uint32_t barrier = shared + shape.full() + stage.at * 8;
    barrier_wait(shared + shape.empty() + stage.at * 8, stage.parity ^ 1);
    const int begin = max(unit.key_begin - first_key, 0);
    const int end = min(unit.key_end - first_key, C::kStageKeys);
#if __CUDA_ARCH__ >= 900
    if (uses_bulk_copies()) {
      constexpr int kSlots = S::kPlanes * 8;  // 16-byte slots of a row
      if (end - begin < C::kStageKeys) {
#pragma unroll 1
        for (int i = lane; i < (C::kStageKeys - (end - begin)) * kSlots; i += 32) {
          const int unread = i / kSlots, s = i % kSlots;
          const int row = unread < begin ? unread : unread - begin + end;
          store_shared_zero16(to + S::kMatrixBytes + (s / 8 * C::kStageKeys + row) * 128 +
                              s % 8 * 16);
        }
        fence_async_proxy();
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive_expect_tx(barrier, 2 * (end - begin) * params.head_dim * 2);
      __syncwarp();
      // Runs of up to 16 rows of one plane.
      constexpr int kRuns = kBlocks * 2 * S::kPlanes;
      constexpr int kPlaneBytes = kCacheBlockTokens * kTileK * 2;
#pragma unroll
      for (int i = lane; i < (kRuns + 31) / 32 * 32; i += 32) {
        const int block = i / (2 * S::kPlanes), is_value = i / S::kPlanes % 2;
        const int plane = i % S::kPlanes;
        const int id =
            __shfl_sync(0xffffffff, ids, (first_key / kCacheBlockTokens + block - ids_first) & 31);
        const int rows = min(end - block * kCacheBlockTokens, kCacheBlockTokens);
        if (i >= kRuns || rows <= 0 || block * kCacheBlockTokens < begin ||
            plane >= params.head_dim / kTileK)
          continue;
        bulk_copy(to + is_value * S::kMatrixBytes +
                      (plane * C::kStageKeys + block * kCacheBlockTokens) * 128,
                  matrix(id, is_value, unit.head) + plane * kPlaneBytes, rows * 128, barrier);
      }
      stage.advance(1, shape.num_stages);
      return;
    }
#endif
    if (params.head_dim % 8 == 0) {
      copy_pieces<16>(unit, first_key, begin, end, to);
    } else {
      copy_pieces<4>(unit, first_key, begin, end, to);
    }
    barrier_arrive_after_copies(barrier);
    stage.advance(1, shape.num_stages);
  }

  // The same by cp.async, any head_dim. Columns past head_dim keep the zeros of the start.
  template <int kBytes>
  __device__ __forceinline__ void copy_pieces(const AttentionUnit& unit, int first_key, int begin,
                                              int end, uint32_t to) {
    constexpr int kPieces = C::kDims * 2 / kBytes;  // of a row
#pragma unroll 2
    for (int i = lane; i < C::kStageKeys * kPieces; i += 32) {
      const int row = i / kPieces, d = i % kPieces * (kBytes / 2);
      const int block = (first_key + row) / kCacheBlockTokens;
      const int id = __shfl_sync(0xffffffff, ids, (block - ids_first) & 31);
      if (d >= params.head_dim) continue;
      const bool valid = row >= begin && row < end;
      const int from = cache_offset(row % kCacheBlockTokens, d, params.head_dim) * 2;
      const uint32_t at = to + static_cast<uint32_t>(tiled_offset(row, d, C::kStageKeys)) * 2;
      const uint8_t* keys = matrix(valid ? id : 0, /*is_value=*/0, unit.head);
      const uint8_t* values = matrix(valid ? id : 0, /*is_value=*/1, unit.head);
      copy_async<kBytes>(at, keys + from, valid);
      copy_async<kBytes>(at + S::kMatrixBytes, values + from, valid);
    }
  }

  // Block tables may have been changed by a kernel of this step: they are read after the wait,
  // those of the next unit while this one's keys are asked for.
  __device__ __forceinline__ void run(int item_tile) {
    UnitStream<C> units(params, item_tile);
    AttentionUnit unit, next{};
    bool more = units.next(unit);
    pdl_wait();
    if (more) read_ids(unit, unit.key_begin / kCacheBlockTokens);
    while (more) {
      more = units.next(next);
      const int next_first = next.key_begin / kCacheBlockTokens;
      const int next_ids = more ? read_id(next, next_first + lane) : 0;
      int key = unit.key_begin / C::kStageKeys * C::kStageKeys;
#if __CUDA_ARCH__ >= 900
      if constexpr (C::kStageKeys == kCacheBlockTokens) {
        if (uses_bulk_copies() && params.head_dim == C::kDims) {
          const int whole = unit.key_end / kCacheBlockTokens;
          load_blocks(unit, key / kCacheBlockTokens, whole);
          key = max(key, whole * kCacheBlockTokens);
        }
      }
#endif
      for (; key < unit.key_end; key += C::kStageKeys) load_stage(unit, key);
      unit = next;
      ids = next_ids;
      ids_first = next_first;
    }
  }
};

// What a loading warp does.
template <class C>
__device__ __forceinline__ void load_units(const PagedAttentionParams& params,
                                           const AttentionShared<C>& shape, uint32_t shared,
                                           int warp, int item_tile) {
  const int lane = threadIdx.x % 32;
  if (warp == C::kWarps) {
    KeyLoader<C>{params, shape, shared, lane}.run(item_tile);
  } else {
    QueryLoader<C>{params, shape, shared, lane}.run(item_tile);
  }
}

}  // namespace donar::ops::cuda
