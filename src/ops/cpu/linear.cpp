// Rounds the input once per kind, then hands out tiles of 16 outputs to the threads.
#include <algorithm>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"
#include "ops/cpu/tile_runs.h"

namespace donar::ops::cpu {
namespace {

using quant::Format;
using quant::LinearGroup;
using quant::LinearWeight;

// Of weights. Few rows read them at the speed of memory, in long runs; with many, runs are short
// because they take long, and the weights of a piece stay in L2 while the row blocks pass.
constexpr int64_t kRunBytes = 1 << 20;
constexpr int64_t kRunBytesOfManyRows = 256 << 10;
constexpr int64_t kPieceBytes = 32 << 10;
constexpr int64_t kRowBlockBytes = 768 << 10;  // of rounded rows: stay in L2 while a piece passes
constexpr int64_t kPassRows = 1024;  // rounded at a time: bounds the workspace of large steps
constexpr int64_t kRoundGrain = 16;  // rows of a rounding piece: whole groups everywhere

struct Input {
  const std::byte* data;
  int64_t row_bytes;
};

int64_t input_row_bytes(const Kernels& table, Format format, int64_t k) {
  const int64_t padded = rows16::padded_k(format, k);
  switch (input_kind(format)) {
    case InputKind::kInt8:
      return padded / rows16::kBlock * kInt8BlockBytes;
    case InputKind::kBf16:
      return padded * table.bf16_bytes;
    case InputKind::kFloat:
      return padded * int64_t{sizeof(float)};
  }
  return 0;
}

Input round_input(Exec& ex, TensorView x, Format format) {
  const int64_t rows = x.dim(0);
  const int64_t k = x.dim(1);
  const InputKind kind = input_kind(format);
  const int64_t padded = rows16::padded_k(format, k);
  const Kernels& table = kernels(ex);
  const int64_t row_bytes = input_row_bytes(table, format, k);
  auto* out = ex.arena->take<std::byte>(rows * row_bytes);
  const int64_t grain = (rows_per_piece(ex, rows, k) + kRoundGrain - 1) / kRoundGrain * kRoundGrain;
  ex.pool->parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    const float* from = x.row<float>(begin);
    std::byte* to = out + begin * row_bytes;
    if (kind == InputKind::kInt8) {
      table.round_int8(from, x.stride[0], end - begin, k, padded, weight_offset(format),
                       /*halves=*/format == Format::kQ6_K, to);
    } else {
      table.group_floats(from, x.stride[0], end - begin, k, padded,
                         /*to_bf16=*/kind == InputKind::kBf16, to);
    }
  });
  return {out, row_bytes};
}

// Whether a part can read what was rounded for `rounded`: the same kind and padding, and the offset
// terms that its kernel adds, if it adds any. Formats with minimums add none.
bool reads(Format format, Format rounded, int64_t k) {
  return input_kind(format) == input_kind(rounded) &&
         rows16::padded_k(format, k) == rows16::padded_k(rounded, k) &&
         (weight_offset(format) == 0 || weight_offset(format) == weight_offset(rounded));
}

struct PartTiles {
  const LinearWeight* weight;
  int64_t first_tile;  // in the numbering of the pass
  int64_t tiles;
  int64_t first_output;
};

void multiply(Exec& ex, const Input& input, int64_t rows, const PartTiles* parts, int count,
              TensorView y) {
  int64_t tiles = 0;
  int64_t bytes = 0;
  for (int i = 0; i < count; ++i) {
    tiles += parts[i].tiles;
    bytes += parts[i].tiles * rows16::tile_bytes(parts[i].weight->format, parts[i].weight->k);
  }
  const bool many = rows >= kLinearManyRows;
  const int threads = ex.pool->num_threads();
  const int64_t tile_bytes = std::max<int64_t>(bytes / tiles, 1);
  int64_t run = std::max<int64_t>(kRunBytes / tile_bytes, 1);
  int64_t piece = std::max<int64_t>(kPieceBytes / tile_bytes, 1);
  if (many) {
    // Enough tiles to share a stretch of the rows, however large they are.
    const int64_t fair = std::max<int64_t>(tiles / (int64_t{threads} * 6), 1);
    run = piece = std::clamp<int64_t>(kRunBytesOfManyRows / tile_bytes,
                                      std::min(kLinearManyTiles, fair), fair);
  }
  const int64_t turns = tiles / (run * threads);
  TileRuns runs(tiles, threads * std::max<int64_t>(turns, 1), piece, threads);
  const int64_t block =
      std::max<int64_t>(kRowBlockBytes / input.row_bytes / kRoundGrain, 1) * kRoundGrain;
  const Kernels& table = kernels(ex);

  // Those of the tiles [begin, end) that lie in the part of the first one; returns how many.
  const auto compute = [&](int64_t begin, int64_t end) {
    int i = 0;
    while (begin >= parts[i].first_tile + parts[i].tiles) ++i;
    const LinearWeight& weight = *parts[i].weight;
    const int64_t local = begin - parts[i].first_tile;
    const int64_t count = std::min(end - begin, parts[i].tiles - local);
    const int64_t bytes_of_tile = rows16::tile_bytes(weight.format, weight.k);
    const auto tile_at = [&](int64_t tile, int64_t tiles_of_it, int64_t row, int64_t num_rows) {
      const int64_t output = (local + tile) * rows16::kTileRows;
      return LinearTile{
          .weights = static_cast<const std::byte*>(weight.data) + (local + tile) * bytes_of_tile,
          .k = rows16::padded_k(weight.format, weight.k),
          .x = input.data + row * input.row_bytes,
          .x_row_bytes = input.row_bytes,
          .rows = num_rows,
          .y = y.row<float>(row) + parts[i].first_output + output,
          .y_stride = y.stride[0],
          .outputs = static_cast<int>(std::min(weight.n - output, tiles_of_it * rows16::kTileRows)),
          .bias = weight.bias != nullptr ? weight.bias + output : nullptr};
    };
    const auto format = static_cast<size_t>(weight.format);
    if (many && table.linear_many[format] != nullptr) {
      for (int64_t tile = 0; tile < count; tile += kLinearManyTiles) {
        const int64_t tiles_at_once = std::min(count - tile, kLinearManyTiles);
        table.linear_many[format](tile_at(tile, tiles_at_once, 0, rows), tiles_at_once);
      }
    } else {
      for (int64_t row = 0; row < rows; row += block) {
        for (int64_t tile = 0; tile < count; ++tile)
          table.linear[format](tile_at(tile, 1, row, std::min(block, rows - row)));
      }
    }
    return count;
  };
  ex.pool->parallel_for(runs.count(), 1, [&](int64_t run, int64_t) {
    runs.work(run, [&](int64_t begin, int64_t end) {
      while (begin < end) begin += compute(begin, end);
    });
  });
}

void linear_pass(Exec& ex, TensorView x, const LinearGroup& group, TensorView y) {
  bool done[3] = {};
  for (int first = 0; first < group.count; ++first) {
    if (done[first]) continue;
    // Rounded for a part with offset terms, so that parts without read it as well.
    Format rounded = group.parts[static_cast<size_t>(first)].format;
    for (int i = first + 1; i < group.count; ++i) {
      const Format other = group.parts[static_cast<size_t>(i)].format;
      if (!done[i] && reads(rounded, other, x.dim(1))) rounded = other;
    }
    PartTiles parts[3];
    int count = 0;
    int64_t tiles = 0;
    int64_t output = 0;
    for (int i = 0; i < group.count; ++i) {
      const LinearWeight& weight = group.parts[static_cast<size_t>(i)];
      if (!done[i] && reads(weight.format, rounded, x.dim(1))) {
        const int64_t part = (weight.n + rows16::kTileRows - 1) / rows16::kTileRows;
        parts[count++] = {&weight, tiles, part, output};
        tiles += part;
        done[i] = true;
      }
      output += weight.n;
    }
    Arena::Scope scope(*ex.arena);
    const Input input = round_input(ex, x, rounded);
    multiply(ex, input, x.dim(0), parts, count, y);
  }
}

}  // namespace

int64_t rows_per_piece(const Exec& ex, int64_t rows, int64_t dim) {
  const int threads = ex.pool->num_threads();
  if (rows * dim < kForkFloats || threads == 1) return std::max<int64_t>(rows, 1);
  const int64_t fair = (rows + threads * int64_t{4} - 1) / (threads * int64_t{4});
  return std::max<int64_t>(fair, std::max<int64_t>(kForkFloats / 4 / dim, 1));
}

void linear(Exec& ex, TensorView x, const LinearGroup& group, TensorView y) {
  const int64_t all_rows = x.dim(0);
  for (int64_t row = 0; row < all_rows; row += kPassRows) {
    const int64_t rows = std::min(kPassRows, all_rows - row);
    linear_pass(ex, x.rows(row, rows), group, y.rows(row, rows));
  }
}

uint64_t linear_workspace_bytes(int64_t rows, int64_t k) {
  const Kernels& widest_bf16 = kernels_for(CpuIsa::kPortable);
  const int64_t widest = std::max({input_row_bytes(widest_bf16, Format::kQ6_K, k),
                                   input_row_bytes(widest_bf16, Format::kF32, k),
                                   input_row_bytes(widest_bf16, Format::kBF16, k)});
  return static_cast<uint64_t>(std::min(rows, kPassRows) * widest + 64);
}

}  // namespace donar::ops::cpu
