#include "ops/linear.h"

#include <algorithm>

#include "ops/cpu/common/rows16.h"
#include "ops/cpu/ops.h"
#include "ops/cuda/linear.h"
#include "tensor/cuda.h"

namespace donar::ops {

using quant::Format;
using quant::Layout;

namespace {

void check_weights(const Exec& ex, const quant::LinearGroup& group) {
  DONAR_CHECK(group.count >= 1 && group.count <= (ex.on_cuda() ? 1 : 3), "{} parts", group.count);
  for (int i = 0; i < group.count; ++i) {
    const quant::LinearWeight& part = group.parts[static_cast<size_t>(i)];
    DONAR_CHECK(
        part.k == group.k() && part.layout == preferred_layout(ex.device) && part.data != nullptr,
        "part {}: k {} of {}", i, part.k, group.k());
  }
}

}  // namespace

void linear(Exec& ex, TensorView x, const quant::LinearGroup& group, TensorView y) {
  check_weights(ex, group);
  y = y.as_parts();
  const int64_t rows = y.dim(1);
  DONAR_CHECK(is_activation(ex, x, rows, group.k()) && y.dim(2) == group.n(),
              "weights [{}, {}], y [{}, {}]", group.n(), group.k(), rows, y.dim(2));
  const LinearOutput output = linear_output(ex, group, rows);
  const bool whole_floats = y.dtype == DType::kF32 && y.dim(0) == 1;
  DONAR_CHECK(whole_floats || (y.dtype == output.dtype && y.dim(0) == output.parts),
              "{} parts of {}, not {} of {}", y.dim(0), dtype_name(y.dtype), output.parts,
              dtype_name(output.dtype));
  if constexpr (kCuda) {
    if (ex.on_cuda()) return cuda::linear(ex, x, group.parts[0], y);
  }
  cpu::linear(ex, x, group, y.part(0));
}

void linear_silu_mul(Exec& ex, TensorView x, const quant::LinearGroup& gate_up, TensorView y) {
  check_weights(ex, gate_up);
  const int64_t dim = gate_up.n() / 2;
  const int64_t rows = ex.on_cuda() ? y.dim(1) : y.dim(0);
  DONAR_CHECK(is_activation(ex, x, rows, gate_up.k()) && is_activation(ex, y, rows, dim),
              "weights [{}, {}], {} rows", gate_up.n(), gate_up.k(), rows);
  if constexpr (kCuda) {
    if (ex.on_cuda()) return cuda::linear_silu_mul(ex, x, gate_up.parts[0], y);
  }
  Arena::Scope scope(*ex.arena);
  const TensorView both(ex.arena->take<float>(rows * 2 * dim), DType::kF32, {rows, 2 * dim});
  cpu::linear(ex, x, gate_up, both);
  cpu::silu_mul(ex, both, y);
}

void read_ahead(Exec& ex, const quant::LinearGroup& group, int64_t rows) {
  if (!ex.on_cuda()) cpu::read_ahead(ex, group, rows);
}

LinearOutput linear_output(const Exec& ex, const quant::LinearGroup& group, int64_t rows) {
  if constexpr (kCuda) {
    if (ex.on_cuda()) return cuda::linear_output(ex, group.parts[0], rows);
  }
  return {};
}

int64_t linear_output_bytes(const Exec& ex, const quant::LinearGroup& group, int64_t max_rows) {
  const auto bytes = [&](int64_t rows) {
    const LinearOutput output = linear_output(ex, group, rows);
    return output.parts * rows * group.n() * static_cast<int64_t>(dtype_size(output.dtype));
  };
  int64_t most = bytes(max_rows);
  if (!ex.on_cuda()) return most;
  // Fewer rows may have more parts.
  for (int64_t rows = 1; rows < max_rows; ++rows) most = std::max(most, bytes(rows));
  return most;
}

uint64_t linear_workspace_bytes(DeviceType device, int64_t rows, int64_t k) {
  return device == DeviceType::kCuda ? 0 : cpu::linear_workspace_bytes(rows, k);
}

uint64_t linear_silu_mul_workspace_bytes(DeviceType device, int64_t rows, int64_t k, int64_t dim) {
  if (device == DeviceType::kCuda) return 0;
  return linear_workspace_bytes(device, rows, k) + 2 * Arena::kAlignment +
         static_cast<uint64_t>(rows * 2 * dim) * sizeof(float);
}

Layout preferred_layout(DeviceType device) {
  return device == DeviceType::kCpu ? Layout::kRows16 : Layout::kTiled;
}

int64_t packed_bytes(Format format, Layout layout, int64_t n, int64_t k) {
  DONAR_CHECK(layout != Layout::kTiled);
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
