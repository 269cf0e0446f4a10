// What the attention kernels are made of: a CTA takes units (one item, one kv head, one tile of
// query rows) in turn. Of its last two warps one reads keys and values ahead through one ring, over
// the borders of units, the other brings queries (paged_attention_loader.cuh); the others compute.
// Query rows of all heads that share a kv head are rows of one tile: tile row m of an item is step
// row m / group, head m % group.
//
// A kernel's Config gives
//   T                 __nv_bfloat16 or __half
//   kDims             head_dim rounded up: 64, 128 or 256
//   kTile             query rows x heads of a unit
//   kStageKeys        keys of a ring stage, at multiples of it
//   kWarps            that compute
//   kStageReaders     warps that read one stage
//   kMaxStages        of the ring
//   kAlignment        of the ring's stages: 1,024 where the tensor cores read them
//   kScratchBytes     of its own
#pragma once

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/paged_attention.h"
#include "ops/cuda/paged_attention_layout.h"
#include "ops/cuda/paged_attention_ptx.cuh"

namespace donar::ops::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr int kLoaderWarps = 2;  // keys and values; queries

struct AttentionUnit {
  int num_rows;  // of the item; 0: there are no more units
  int row_begin;
  int position;  // of the first row
  int sequence;
  int head;       // kv head
  int tile;       // first tile row
  int key_begin;  // a multiple of kCacheBlockTokens: keys before it are seen by no row
  int key_end;
  int chunk;       // keys of a split; the next one begins at a multiple of it
  int split;       // the first, of those in which some row sees a key
  int num_splits;  // of the rows in all, likewise
  int num_units;   // that share them; 1: this one has every split
  int partial;     // partial row of (split 0, first row)
  int counter;
};
inline constexpr int kUnitInts = sizeof(AttentionUnit) / sizeof(int);
static_assert(kUnitInts == 14);

// Shared memory of a CTA. Everything but the ring is small.
template <class C>
struct AttentionShared {
  static constexpr int kPlanes = C::kDims / kTileK;  // k tiles of a head
  static constexpr uint32_t kMatrixBytes =
      C::kStageKeys * C::kDims * 2;  // keys (values) of a stage
  static constexpr uint32_t kStageBytes = 2 * kMatrixBytes;
  static constexpr uint32_t kQueryBytes = C::kTile * C::kDims * 2;
  static constexpr uint32_t kUnitBytes = 64;
  static constexpr int kMaxStages = C::kMaxStages;
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
  // The rest is to align.
  DONAR_HOST_DEVICE constexpr uint32_t bytes() const {
    return unit_empty() + kMaxSlots * 8 + C::kAlignment - 16;
  }

  // A warp that reads some of the stages must meet the same ones in every round of the ring: only
  // then has it seen the phase before, without which it cannot tell a stage that is full from one
  // that has not been filled at all.
  static constexpr int kStageStep = C::kWarps / C::kStageReaders;

  // The deepest ring that fits; the second slot for queries yields to it.
  static constexpr AttentionShared fitting(uint64_t shared_bytes_per_block) {
    for (int slots = kMaxSlots; slots >= 1; --slots) {
      AttentionShared shared;
      shared.num_slots = slots;
      const uint64_t fixed = shared.bytes();
      if (fixed >= shared_bytes_per_block) continue;
      const uint64_t stages = (shared_bytes_per_block - fixed) / kStageBytes;
      shared.num_stages = static_cast<int>(stages < kMaxStages ? stages : kMaxStages);
      shared.num_stages = shared.num_stages / kStageStep * kStageStep;
      if (shared.num_stages >= (slots == 1 ? 1 : 3)) return shared;
    }
    return {};
  }
  static constexpr bool fits_every_device() {
    // 8.7; 9.0 and 11.0; 12.1
    return fitting(163 << 10).num_stages > 0 && fitting(227 << 10).num_stages > 0 &&
           fitting(99 << 10).num_stages > 0;
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
  const int last_key = item.position + item.num_rows;
  const int splits = (last_key + item.chunk - 1) / item.chunk;
  const int tile_rows = item.num_rows * group;
  unit.num_rows = item.num_rows;
  unit.row_begin = item.row_begin;
  unit.position = item.position;
  unit.sequence = item.sequence;
  unit.head = head;
  unit.tile = tile * C::kTile;
  unit.key_begin = max(item.split * item.chunk, first_key) / kCacheBlockTokens * kCacheBlockTokens;
  unit.key_end = min((item.split + item.run) * item.chunk, last_key);
  unit.chunk = item.chunk;
  unit.split = max(item.split - first_split, 0);
  unit.num_splits = splits - first_split;
  unit.num_units = (splits + item.run - 1) / item.run - first_split / item.run;
  unit.partial = item.partial + first_split * item.num_rows;
  // The counters of the item's rows are its own: [rows, kv heads, decode tiles of a group].
  const int counters_of_row =
      params.kv_heads * ((group + kAttentionDecodeTile - 1) / kAttentionDecodeTile);
  unit.counter =
      item.row_begin * counters_of_row + head * ((tile_rows + C::kTile - 1) / C::kTile) + tile;
  return unit.tile < tile_rows && item.split + item.run > first_split;
}

// Reads the next unit; false after the last.
template <class C>
__device__ __forceinline__ bool take_unit(const AttentionShared<C>& shape, uint32_t shared,
                                          const RingCursor& slot, AttentionUnit& unit) {
  barrier_wait(shared + shape.unit_full() + slot.at * 8, slot.parity);
  const uint32_t at = shared + shape.units() + slot.at * AttentionShared<C>::kUnitBytes;
  const auto word = [&](int i) { return static_cast<int>(load_shared(at + i * 4)); };
  unit = {word(0), word(1), word(2), word(3),  word(4),  word(5),  word(6),
          word(7), word(8), word(9), word(10), word(11), word(12), word(13)};
  return unit.num_rows > 0;
}

template <class C>
__device__ __forceinline__ uint8_t* aligned_shared(uint8_t* memory) {
  return memory + (-shared_address(memory) & (C::kAlignment - 1u));
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
