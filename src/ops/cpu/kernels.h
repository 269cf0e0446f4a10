// What an instruction set provides: one table of row and tile functions, filled by
// kernels_<isa>.cpp from the same templates. The files beside this one split the work of an op over
// threads and call these.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"
#include "tensor/dtype.h"
#include "tensor/exec.h"

namespace donar::ops::cpu {

// How a weight format wants its input rounded.
enum class InputKind : uint8_t { kFloat, kBf16, kInt8 };

// Input rows of linear, rounded and regrouped: rows go in groups of the Vec's kMaxRows, then of the
// next powers of two below; within a group the rows of one step lie side by side, so that the
// register tile reads one sequential stream. A group begins at its first row * row_bytes whatever
// the grouping.
//   kInt8   per block of 32: [rows][32 int8], then [rows]{scale, scale * sum, offset terms}
//   kBf16   per value: [rows] f32 of values rounded to bf16: the products are done in f32, since
//   vdpbf16ps runs at half the rate of
//           two vfmadd (Sapphire Rapids: one per two cycles)
//   kFloat  per value: [rows] f32
// AMX has groups of its own (amx_int8.h, amx_bf16.h) in the same bytes or fewer.
struct Int8BlockMeta {
  float scale;
  float scaled_sum;   // scale * sum of the 32 integers
  int32_t offset[2];  // -offset * sum: what unsigned weights (q + offset) count too much; of each
                      // 16 values if halves, else of all 32 and the same plus the bits of kExact
};
// 1.5 * 2^23: added to the bits of an integer below 2^22 it makes that float plus the integer.
inline constexpr float kExact = 12582912.0f;
inline constexpr int kInt8BlockBytes = 32 + sizeof(Int8BlockMeta);

struct LinearTile {
  const std::byte* weights;  // one tile of layout kRows16
  int64_t k;                 // padded: a multiple of the format's unit
  const std::byte* x;        // regrouped rows, the first one beginning a group
  int64_t x_row_bytes;
  int64_t rows;
  float* y;           // first output of the tile in the first row
  int64_t y_stride;   // floats
  int outputs;        // 1..16 that exist
  const float* bias;  // of this tile, or null
};

inline constexpr int64_t kLinearManyRows = 16;
inline constexpr int64_t kLinearManyTiles = 8;

// One item of attention: consecutive query rows of one sequence against one or more kv heads. Its
// rows are kv_heads * queries * heads, at most kAttentionRows.
struct AttentionItem {
  const float* q;            // first row's first head of this item
  int64_t q_stride;          // floats from row to row
  const int32_t* positions;  // [queries]
  int queries;
  int kv_heads;  // neighbours in the cache
  int heads;     // query heads that share a kv head
  const int32_t* block_table;
  const void* cache;  // the layer's data
  DType dtype;
  int64_t block_elements;
  int64_t k_offset;  // elements from a block's start to the first kv head's keys
  int64_t v_offset;
  int head_dim;
  float scale;
  int window;
  const float* sinks;  // [kv_heads * heads] or null
  float* out;
  int64_t out_stride;
  std::byte* scratch;  // attention_scratch_bytes(head_dim)
};

inline constexpr int kAttentionRows = 64;        // rows of an item at most
inline constexpr int kAttentionSharedRows = 32;  // of an item of several kv heads at most
inline constexpr int kAttentionSplit = 256;  // keys of one softmax; the parts are merged in order
int64_t attention_scratch_bytes(int head_dim);

// Unnormalised result of some keys for every row of an item: sum of e^(score - max) * value, and of
// e^(score - max).
struct AttentionPart {
  float* values;  // [rows][head_dim padded to 16]
  float* max;     // [rows]
  float* sum;     // [rows]
};

// What the thread that computes a split has read before and reads after it: a hint.
struct AttentionAhead {
  bool announced = false;               // the split was the next one of the split before
  const AttentionItem* item = nullptr;  // of the next split, or null
  int split = 0;
};

struct Kernels {
  // Rounds `rows` rows (the first one beginning a group) to k padded values each.
  void (*round_int8)(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                     int offset, bool halves, std::byte* out);
  void (*group_floats)(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t padded,
                       bool to_bf16, std::byte* out);
  int bf16_bytes;  // that group_floats takes for a value rounded to bf16: 4 where it stays f32
  // By quant::Format; of fewer than kLinearManyRows rows where linear_many takes the others.
  void (*linear[quant::kNumFormats])(const LinearTile& tile);
  // Two tiles of one format, wherever they lie, times fewer than kLinearManyRows rows: two streams
  // read memory faster than one. Null where one is as good.
  void (*linear_two[quant::kNumFormats])(const LinearTile& first, const LinearTile& second);
  // The same for kLinearManyRows rows and more, all at once, and up to kLinearManyTiles
  // neighbouring tiles with first.outputs outputs in all; null where linear is as good.
  void (*linear_many[quant::kNumFormats])(const LinearTile& first, int64_t tiles);
  void (*add_rms_norm)(float* x, const float* delta, const float* weight, float eps, int64_t dim,
                       float* y);
  void (*silu_mul)(const float* gate, const float* up, int64_t dim, float* y);
  // One head: y = rope(norm(x)); norm_weight may be null; y may be x.
  void (*norm_rope)(const float* x, const float* norm_weight, float eps, const float* cos_sin,
                    int head_dim, float* y);
  void (*store_kv)(const float* x, int64_t n, DType dtype, void* out);
  void (*attention)(const AttentionItem& item, const AttentionAhead& ahead);
  // The same in pieces, for threads that share one item: `total` begins, takes the parts of its
  // splits in order, and ends as output.
  void (*attention_begin)(const AttentionItem& item, const AttentionPart& total);
  void (*attention_split)(const AttentionItem& item, int split, const AttentionPart& part,
                          const AttentionAhead& ahead);
  void (*attention_merge)(const AttentionItem& item, const AttentionPart& part,
                          const AttentionPart& total);
  void (*attention_end)(const AttentionItem& item, const AttentionPart& total);
};

const Kernels& kernels_for(CpuIsa isa);
inline const Kernels& kernels(const Exec& ex) { return kernels_for(ex.isa); }

constexpr InputKind input_kind(quant::Format format) {
  switch (format) {
    case quant::Format::kF32:
    case quant::Format::kF16:
      return InputKind::kFloat;
    case quant::Format::kBF16:
      return InputKind::kBf16;
    default:
      return InputKind::kInt8;
  }
}
// What unsigned weights carry above their value.
constexpr int weight_offset(quant::Format format) {
  switch (format) {
    case quant::Format::kQ4_0:
      return 8;
    case quant::Format::kQ5_0:
      return 16;
    case quant::Format::kQ6_K:
      return 32;
    case quant::Format::kQ8_0:
      return 128;
    default:
      return 0;
  }
}

// Of the quantized formats.
constexpr bool has_min(quant::Format format) { return weight_offset(format) == 0; }
constexpr bool has_halves(quant::Format format) {  // a scale for each 16 values
  return format == quant::Format::kQ6_K;
}
constexpr bool has_superblocks(quant::Format format) {
  return format == quant::Format::kQ4_K || format == quant::Format::kQ5_K ||
         format == quant::Format::kQ6_K;
}
constexpr bool has_fifth_bits(quant::Format format) {
  return format == quant::Format::kQ5_0 || format == quant::Format::kQ5_1 ||
         format == quant::Format::kQ5_K;
}

}  // namespace donar::ops::cpu
