#include "ops/linear.h"

#include <algorithm>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/ops.h"

namespace donar::ops {

using quant::Format;
using quant::Layout;

void linear(Exec& ex, TensorView x, const quant::LinearGroup& group, TensorView y) {
  DONAR_CHECK(group.count >= 1 && group.count <= 3, "{} parts", group.count);
  DONAR_CHECK(x.rank == 2 && y.rank == 2 && x.dtype == DType::kF32 && y.dtype == DType::kF32);
  DONAR_CHECK(x.dim(1) == group.k() && y.dim(1) == group.n() && x.dim(0) == y.dim(0),
              "x [{}, {}], weights [{}, {}], y [{}, {}]", x.dim(0), x.dim(1), group.n(), group.k(),
              y.dim(0), y.dim(1));
  for (int i = 0; i < group.count; ++i) {
    const quant::LinearWeight& part = group.parts[static_cast<size_t>(i)];
    DONAR_CHECK(
        part.k == group.k() && part.layout == preferred_layout(ex.device) && part.data != nullptr,
        "part {}: k {} of {}", i, part.k, group.k());
  }
  cpu::linear(ex, x, group, y);
}

uint64_t linear_workspace_bytes(int64_t rows, int64_t k) {
  return cpu::linear_workspace_bytes(rows, k);
}

Layout preferred_layout(DeviceType device) {
  return device == DeviceType::kCpu ? Layout::kRows16 : Layout::kRowMajor;
}

int64_t packed_bytes(Format format, Layout layout, int64_t n, int64_t k) {
  if (layout == Layout::kRowMajor) return n * quant::row_bytes(format, k);
  return (n + cpu::rows16::kTileRows - 1) / cpu::rows16::kTileRows *
         cpu::rows16::tile_bytes(format, k);
}

void repack_rows(Format format, Layout layout, int64_t n, int64_t k, int64_t row_begin,
                 int64_t rows, const void* stored, void* packed) {
  DONAR_CHECK(row_begin >= 0 && rows >= 0 && row_begin + rows <= n, "rows [{}, {}) of {}",
              row_begin, row_begin + rows, n);
  DONAR_CHECK(k % quant::info(format).block_values == 0, "k {} in {}", k, quant::info(format).name);
  const int64_t bytes = quant::row_bytes(format, k);
  const auto* from = static_cast<const std::byte*>(stored);
  auto* to = static_cast<std::byte*>(packed);
  if (layout == Layout::kRowMajor) {
    std::copy(from, from + rows * bytes, to + row_begin * bytes);
    return;
  }
  const int64_t tile_bytes = cpu::rows16::tile_bytes(format, k);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = row_begin + i;
    cpu::rows16::pack_row(format, from + i * bytes, k,
                          static_cast<int>(row % cpu::rows16::kTileRows),
                          to + row / cpu::rows16::kTileRows * tile_bytes);
  }
}

void unpack_packed_row(const quant::LinearWeight& weight, int64_t row, float* values) {
  DONAR_CHECK(row >= 0 && row < weight.n, "row {} of {}", row, weight.n);
  const auto* data = static_cast<const std::byte*>(weight.data);
  if (weight.layout == Layout::kRowMajor) {
    quant::unpack_row(weight.format, data + row * quant::row_bytes(weight.format, weight.k),
                      weight.k, values);
    return;
  }
  cpu::rows16::unpack_row(
      weight.format,
      data + row / cpu::rows16::kTileRows * cpu::rows16::tile_bytes(weight.format, weight.k),
      weight.k, static_cast<int>(row % cpu::rows16::kTileRows), values);
}

}  // namespace donar::ops
