// Several tiles of weights times many rows, in parts: what the AMX kernels of all formats share.
#pragma once

#include <algorithm>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu::amx {

inline constexpr int64_t kPassRows = 256;  // at a time: their totals stay in L1 or L2

// One of several tiles.
inline LinearTile tile_of(const LinearTile& t, int64_t index, int64_t tile_bytes) {
  LinearTile tile = t;
  const int64_t output = index * rows16::kTileRows;
  tile.weights += index * tile_bytes;
  tile.y += output;
  tile.outputs = static_cast<int>(std::min<int64_t>(t.outputs - output, rows16::kTileRows));
  if (t.bias != nullptr) tile.bias += output;
  return tile;
}

inline LinearTile rows_of(const LinearTile& t, int64_t row, int64_t rows) {
  LinearTile part = t;
  part.x += row * t.x_row_bytes;
  part.y += row * t.y_stride;
  part.rows = rows;
  return part;
}

// Memory that will be read soon, asked for a share at a time.
class Ahead {
 public:
  Ahead(const std::byte* at, int64_t bytes, int64_t shares)
      : at_(at), end_(at + bytes), share_(((bytes + shares - 1) / shares + 63) / 64 * 64) {}
  void ask() {
    const std::byte* to = std::min(at_ + share_, end_);
    for (; at_ < to; at_ += 64) __builtin_prefetch(at_, 0, 2);
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
  int64_t share_;
};

}  // namespace donar::ops::cpu::amx
