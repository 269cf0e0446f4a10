// What the attention kernels are made of: a CTA takes units (one item, one kv head, one tile of
// query rows) in turn. Of its last two warps one reads keys and values ahead through one ring, over
// the borders of units, the other brings queries; the others compute. Query rows of all heads that
// share a kv head are rows of one tile: tile row m of an item is step row m / group, head m %
// group.
//
// A kernel's Config gives
//   T                 __nv_bfloat16 or __half
//   kDims             head_dim rounded up: 64, 128 or 256
//   kTile             query rows x heads of a unit
//   kStageKeys        keys of a ring stage, at multiples of it
//   kWarps            that compute
//   kStageReaders     warps that read one stage
//   kScratchBytes     of its own
#pragma once

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/paged_attention.h"
#include "ops/cuda/paged_attention_layout.h"
#include "ops/cuda/paged_attention_ptx.cuh"

namespace donar::ops::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

struct AttentionUnit {
  int num_rows;  // of the item; 0: there are no more units
  int row_begin;
  int position;  // of the first row
  int sequence;
  int head;       // kv head
  int tile;       // first tile row
  int key_begin;  // a multiple of kCacheBlockTokens: keys before it are seen by no row
  int key_end;
  int split;       // of those in which some row sees a key
  int num_splits;  // likewise
  int partial;     // partial row of (split 0, first row)
  int counter;
};
inline constexpr int kUnitInts = sizeof(AttentionUnit) / sizeof(int);

// Shared memory of a CTA. Everything but the ring is small.
template <class C>
struct AttentionShared {
  static constexpr int kPlanes = C::kDims / kTileK;  // k tiles of a head
  static constexpr uint32_t kMatrixBytes =
      C::kStageKeys * C::kDims * 2;  // keys (values) of a stage
  static constexpr uint32_t kStageBytes = 2 * kMatrixBytes;
  static constexpr uint32_t kQueryBytes = C::kTile * C::kDims * 2;
  static constexpr uint32_t kUnitBytes = 64;
  static constexpr int kMaxStages = 48;
  static constexpr int kMaxSlots = 2;
  static constexpr uint32_t kBarrierBytes = (kMaxStages + kMaxSlots) * 2 * 8;

  int num_stages = 0;
  int num_slots = 0;  // units whose queries are there at once

  DONAR_HOST_DEVICE constexpr uint32_t queries() const { return num_stages * kStageBytes; }
  DONAR_HOST_DEVICE constexpr uint32_t scratch() const {
    return queries() + num_slots * kQueryBytes;
  }
  DONAR_HOST_DEVICE constexpr uint32_t units() const { return scratch() + C::kScratchBytes; }
  DONAR_HOST_DEVICE constexpr uint32_t full() const { return units() + kMaxSlots * kUnitBytes; }
  DONAR_HOST_DEVICE constexpr uint32_t empty() const { return full() + kMaxStages * 8; }
  DONAR_HOST_DEVICE constexpr uint32_t unit_full() const { return empty() + kMaxStages * 8; }
  DONAR_HOST_DEVICE constexpr uint32_t unit_empty() const { return unit_full() + kMaxSlots * 8; }
  // 1,024 to align.
  DONAR_HOST_DEVICE constexpr uint32_t bytes() const { return unit_empty() + kMaxSlots * 8 + 1024; }

  // The deepest ring that fits; the second slot for queries yields to the ring.
  static AttentionShared fitting(uint64_t shared_bytes_per_block) {
    for (int slots = kMaxSlots; slots >= 1; --slots) {
      AttentionShared shared;
      shared.num_slots = slots;
      const uint64_t fixed = shared.bytes();
      if (fixed >= shared_bytes_per_block) continue;
      const uint64_t stages = (shared_bytes_per_block - fixed) / kStageBytes;
      shared.num_stages = static_cast<int>(stages < kMaxStages ? stages : kMaxStages);
      if (shared.num_stages >= (slots == 1 ? 1 : 3)) return shared;
    }
    return {};
  }
};

// A place in a ring of stages or slots.
struct RingCursor {
  int at = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int steps, int size) {
    at += steps;
    while (at >= size) at -= size, parity ^= 1;
  }
};

// Units of a launch are numbered longest first; CTAs take them to and fro, so that long and short
// ones come out even.
struct UnitOrder {
  int num_units;
  __device__ __forceinline__ int rounds() const {
    return (num_units + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x);
  }
  __device__ __forceinline__ int unit(int round) const {
    const int cta = static_cast<int>(blockIdx.x), ctas = static_cast<int>(gridDim.x);
    return round * ctas + (round % 2 == 0 ? cta : ctas - 1 - cta);
  }
};

// Tiles of the largest item: every item is numbered as if it had as many.
template <class C>
__device__ __forceinline__ int max_tiles(const PagedAttentionParams& params, int item_tile) {
  const int group = params.q_heads / params.kv_heads;
  return (max(item_tile, group) + C::kTile - 1) / C::kTile;
}

// False where there is nothing to do: past the item's rows, or before every row's window.
template <class C>
__device__ __forceinline__ bool make_unit(const PagedAttentionParams& params, int index, int tiles,
                                          AttentionUnit& unit) {
  const int group = params.q_heads / params.kv_heads;
  const int tile = index % tiles;
  const int head = index / tiles % params.kv_heads;
  const int4* words = reinterpret_cast<const int4*>(params.items + index / tiles / params.kv_heads);
  const int4 a = words[0], b = words[1];
  const AttentionItem item = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
  const int first_key = params.window > 0 ? max(item.position - params.window + 1, 0) : 0;
  const int first_split = first_key / item.chunk;
  const int tile_rows = item.num_rows * group;
  unit.num_rows = item.num_rows;
  unit.row_begin = item.row_begin;
  unit.position = item.position;
  unit.sequence = item.sequence;
  unit.head = head;
  unit.tile = tile * C::kTile;
  unit.key_begin = max(item.split * item.chunk, first_key) / kCacheBlockTokens * kCacheBlockTokens;
  unit.key_end = min((item.split + 1) * item.chunk, item.position + item.num_rows);
  unit.split = item.split - first_split;
  unit.num_splits = item.num_splits - first_split;
  unit.partial = item.partial + first_split * item.num_rows;
  // The counters of the item's rows are its own: [rows, kv heads, decode tiles of a group].
  const int counters_of_row =
      params.kv_heads * ((group + kAttentionDecodeTile - 1) / kAttentionDecodeTile);
  unit.counter =
      item.row_begin * counters_of_row + head * ((tile_rows + C::kTile - 1) / C::kTile) + tile;
  return unit.tile < tile_rows && unit.split >= 0;
}

// --- the loading warps ---

inline constexpr int kLoaderWarps = 2;  // keys and values; queries

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
    while (todo_ == 0) {
      if (round_ >= rounds_) return false;
      const int index = order_.unit(round_ + lane);
      const bool found = round_ + lane < rounds_ && index < order_.num_units &&
                         make_unit<C>(params_, index, tiles_, mine_);
      todo_ = __ballot_sync(0xffffffff, found);
      round_ += 32;
    }
    const int source = __ffs(static_cast<int>(todo_)) - 1;
    todo_ &= todo_ - 1;
    const auto given = [&](int value) { return __shfl_sync(0xffffffff, value, source); };
    unit.num_rows = given(mine_.num_rows);
    unit.row_begin = given(mine_.row_begin);
    unit.position = given(mine_.position);
    unit.sequence = given(mine_.sequence);
    unit.head = given(mine_.head);
    unit.tile = given(mine_.tile);
    unit.key_begin = given(mine_.key_begin);
    unit.key_end = given(mine_.key_end);
    unit.split = given(mine_.split);
    unit.num_splits = given(mine_.num_splits);
    unit.partial = given(mine_.partial);
    unit.counter = given(mine_.counter);
    return true;
  }

 private:
  const PagedAttentionParams& params_;
  const int tiles_;
  UnitOrder order_{};
  int rounds_ = 0, round_ = 0;
  unsigned todo_ = 0;     // lanes whose unit has not been given yet
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
      const int words[kUnitInts] = {unit.num_rows, unit.row_begin,  unit.position,  unit.sequence,
                                    unit.head,     unit.tile,       unit.key_begin, unit.key_end,
                                    unit.split,    unit.num_splits, unit.partial,   unit.counter};
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
      bool todo = lane < count;
      while (true) {
        const bool free = todo && barrier_test(empty, mine.parity ^ 1);
        if (free) {
          mbarrier_arrive_expect_tx(full, 2 * bytes);
          bulk_copy(to, keys, bytes, full);
          bulk_copy(to + S::kMatrixBytes, values, bytes, full);
          todo = false;
        }
        if (!__any_sync(0xffffffff, todo)) break;
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

// --- the computing warps ---

// Reads the next unit; false after the last.
template <class C>
__device__ __forceinline__ bool take_unit(const AttentionShared<C>& shape, uint32_t shared,
                                          const RingCursor& slot, AttentionUnit& unit) {
  barrier_wait(shared + shape.unit_full() + slot.at * 8, slot.parity);
  const uint32_t at = shared + shape.units() + slot.at * AttentionShared<C>::kUnitBytes;
  const auto word = [&](int i) { return static_cast<int>(load_shared(at + i * 4)); };
  unit = {word(0), word(1), word(2), word(3), word(4),  word(5),
          word(6), word(7), word(8), word(9), word(10), word(11)};
  return unit.num_rows > 0;
}

// Barriers, and zeros where copies leave columns out. All threads.
template <class C>
__device__ __forceinline__ void prepare_shared(const AttentionShared<C>& shape, uint32_t shared,
                                               int head_dim) {
  if (head_dim != C::kDims) {
    for (uint32_t i = threadIdx.x * 16; i < shape.queries(); i += blockDim.x * 16)
      store_shared_zero16(shared + i);
  }
#if __CUDA_ARCH__ >= 900
  const int stage_arrivals = head_dim % kTileK == 0 ? 1 : 32;
#else
  const int stage_arrivals = 32;
#endif
  const int i = threadIdx.x;
  if (i < shape.num_stages) {
    barrier_init(shared + shape.full() + i * 8, stage_arrivals);
    barrier_init(shared + shape.empty() + i * 8, C::kStageReaders);
  } else if (i - shape.num_stages < shape.num_slots) {
    barrier_init(shared + shape.unit_full() + (i - shape.num_stages) * 8, 32 + 1);
    barrier_init(shared + shape.unit_empty() + (i - shape.num_stages) * 8, C::kWarps);
  }
  fence_async_proxy();  // copies count at these barriers and fill this memory
  __syncthreads();
}

}  // namespace donar::ops::cuda
