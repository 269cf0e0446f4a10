// Rounds the input once per kind, then hands out tiles of 16 outputs to the threads.
#include <algorithm>
#include <span>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/ops.h"
#include "ops/cpu/tile_runs.h"

namespace donar::ops::cpu {
namespace {

using quant::Format;
using quant::LinearGroup;
using quant::LinearWeight;

// Of weights. Few rows read them at the speed of memory; with many, a piece takes long, and its
// weights stay in L2 while the row blocks pass.
constexpr int64_t kPieceBytes = 32 << 10;
constexpr int64_t kPieceBytesOfManyRows = 256 << 10;
constexpr int64_t kStreamBytes = 384 << 10;    // a run that is worth a stream of its own
constexpr int64_t kTurnBytes = 1 << 20;        // before a thread looks whether its core is taken
constexpr int64_t kAheadBytes = 256 << 10;     // a thread asks for while it waits: stay in L2
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

// The tiles of some parts of a group, numbered.
struct PartTiles {
  const LinearWeight* weight;
  int64_t first_tile;
  int64_t tiles;
  int64_t first_output;

  int64_t tile_bytes() const { return rows16::tile_bytes(weight->format, weight->k); }
  const std::byte* tile(int64_t index) const {
    return static_cast<const std::byte*>(weight->data) + index * tile_bytes();
  }
};
struct Parts {
  PartTiles part[3];
  int count = 0;
  int64_t tiles = 0;

  void add(const LinearWeight& weight, int64_t first_output) {
    const int64_t of_it = (weight.n + rows16::kTileRows - 1) / rows16::kTileRows;
    part[count++] = {&weight, tiles, of_it, first_output};
    tiles += of_it;
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += part[i].tiles * part[i].tile_bytes();
    return sum;
  }
  const PartTiles& with(int64_t tile) const {
    const PartTiles* it = part;
    while (tile >= it->first_tile + it->tiles) ++it;
    return *it;
  }
};

// Few rows are bound by memory, and long enough runs of it by how many streams a thread has.
int streams_of(int64_t rows, int64_t bytes, int threads) {
  return rows < kLinearManyRows && bytes >= kStreamBytes * 2 * threads ? 2 : 1;
}

// One pass of rows times the tiles of some parts.
class Product {
 public:
  Product(const Exec& ex, const Input& input, int64_t rows, const Parts& parts, TensorView y)
      : ex_(ex),
        table_(kernels(ex)),
        input_(input),
        rows_(rows),
        parts_(parts),
        y_(y),
        many_(rows >= kLinearManyRows),
        threads_(ex.pool->num_threads()),
        streams_(streams_of(rows, parts.bytes(), threads_)),
        tile_bytes_(std::max<int64_t>(parts.bytes() / parts.tiles, 1)) {}

  void run() const {
    TileRuns runs(parts_.tiles, piece(), threads_, streams_);
    const auto work = [&](int thread, int64_t limit) {
      runs.work(thread, limit, [&](TileRange first, TileRange second) { multiply(first, second); });
    };
    const int64_t turn_bytes = many_ ? kPieceBytesOfManyRows : kTurnBytes;
    const int64_t turn = std::max<int64_t>(turn_bytes / tile_bytes_, 1);
    const int64_t turns = parts_.tiles / (turn * threads_);
    if (turns <= 1) {
      ex_.pool->parallel_threads(threads_, [&](int thread) { work(thread, parts_.tiles); });
      return;
    }
    // Twice the turns that it takes, since those who come late or help take some.
    ex_.pool->parallel_threads(2 * turns * threads_, [&](int thread) { work(thread, turn); });
    work(/*thread=*/0, parts_.tiles);  // what the last turns have left
  }

 private:
  // Tiles that a thread takes at a time.
  int64_t piece() const {
    if (!many_) return std::max<int64_t>(kPieceBytes / (streams_ * tile_bytes_), 1);
    // Enough tiles to share a stretch of the rows, however large they are.
    const int64_t fair = std::max<int64_t>(parts_.tiles / (int64_t{threads_} * 6), 1);
    return std::clamp<int64_t>(kPieceBytesOfManyRows / tile_bytes_,
                               std::min(kLinearManyTiles, fair), fair);
  }

  // `tiles` neighbouring tiles of a part times the rows [row, row + count).
  LinearTile tile_at(const PartTiles& part, int64_t first, int64_t tiles, int64_t row,
                     int64_t count) const {
    const LinearWeight& weight = *part.weight;
    const int64_t output = (first - part.first_tile) * rows16::kTileRows;
    return {.weights = part.tile(first - part.first_tile),
            .k = rows16::padded_k(weight.format, weight.k),
            .x = input_.data + row * input_.row_bytes,
            .x_row_bytes = input_.row_bytes,
            .rows = count,
            .y = y_.row<float>(row) + part.first_output + output,
            .y_stride = y_.stride[0],
            .outputs = static_cast<int>(std::min(weight.n - output, tiles * rows16::kTileRows)),
            .bias = weight.bias != nullptr ? weight.bias + output : nullptr};
  }

  // A tile of each in turn where one kernel takes both.
  void multiply(TileRange first, TileRange second) const {
    for (; first.count() > 0 && second.count() > 0; ++first.first, ++second.first) {
      const PartTiles& part = parts_.with(first.first);
      const PartTiles& other = parts_.with(second.first);
      const auto two = table_.linear_two[static_cast<size_t>(part.weight->format)];
      if (two == nullptr || other.weight->format != part.weight->format) break;
      two(tile_at(part, first.first, 1, 0, rows_), tile_at(other, second.first, 1, 0, rows_));
    }
    multiply(first);
    multiply(second);
  }

  void multiply(TileRange range) const {
    const int64_t block =
        std::max<int64_t>(kRowBlockBytes / input_.row_bytes / kRoundGrain, 1) * kRoundGrain;
    while (range.count() > 0) {
      const PartTiles& part = parts_.with(range.first);
      const auto format = static_cast<size_t>(part.weight->format);
      const bool at_once = many_ && table_.linear_many[format] != nullptr;
      const int64_t left = std::min(range.end, part.first_tile + part.tiles) - range.first;
      const int64_t tiles = std::min(left, at_once ? kLinearManyTiles : 1);
      if (at_once) {
        table_.linear_many[format](tile_at(part, range.first, tiles, 0, rows_), tiles);
      } else {
        for (int64_t row = 0; row < rows_; row += block)
          table_.linear[format](tile_at(part, range.first, 1, row, std::min(block, rows_ - row)));
      }
      range.first += tiles;
    }
  }

  const Exec& ex_;
  const Kernels& table_;
  const Input& input_;
  int64_t rows_;
  const Parts& parts_;
  TensorView y_;
  bool many_;
  int threads_;
  int streams_;
  int64_t tile_bytes_;  // on average
};

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
    Parts parts;
    int64_t output = 0;
    for (int i = 0; i < group.count; ++i) {
      const LinearWeight& weight = group.parts[static_cast<size_t>(i)];
      if (!done[i] && reads(weight.format, rounded, x.dim(1))) {
        parts.add(weight, output);
        done[i] = true;
      }
      output += weight.n;
    }
    Arena::Scope scope(*ex.arena);
    const Input input = round_input(ex, x, rounded);
    Product(ex, input, x.dim(0), parts, y).run();
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

void read_ahead(Exec& ex, const LinearGroup& group, int64_t rows) {
  const int threads = ex.pool->num_threads();
  Parts parts;
  for (int i = 0; i < group.count; ++i) parts.add(group.parts[static_cast<size_t>(i)], 0);
  const int streams = streams_of(rows, parts.bytes(), threads);
  for (int thread = 0; thread < threads; ++thread) {
    std::span<const std::byte> begins[TileRuns::kMostStreams];
    for (int i = 0; i < streams && rows < kLinearManyRows; ++i) {
      const TileRange run = TileRuns::share(parts.tiles, thread * streams + i, threads * streams);
      if (run.count() == 0) continue;
      const PartTiles& part = parts.with(run.first);
      const int64_t first = run.first - part.first_tile;
      const int64_t bytes = std::min(run.count(), part.tiles - first) * part.tile_bytes();
      begins[i] = {part.tile(first), static_cast<size_t>(std::min(bytes, kAheadBytes / streams))};
    }
    ex.pool->read_ahead(thread, begins[0], begins[1]);
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
