// The row ops on CUDA: add_rms_norm, embedding, gather_rows, silu_mul. Steps of few rows find their
// inputs in L2, where the kernel in front left them; those of a prompt come from memory.
#include <fmt/format.h>

#include <cmath>

#include "bench/ops/cuda_bench.h"
#include "ops/add_rms_norm.h"
#include "ops/cuda/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/silu_mul.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

// Rotates a case through so many copies of its data: one while a step's activations fit into L2.
int64_t copies_of(const CudaBench& bench, int64_t rows, double bytes) {
  return rows > 64 ? bench.cold_copies(static_cast<uint64_t>(bytes)) : 1;
}

bool close(double actual, double expected) {
  return std::fabs(actual - expected) <= 0.01 * std::fabs(expected) + 1e-3;
}

// one_block: what a row takes without the cluster that few rows get.
void norm(CudaBench& bench, int64_t dim, int64_t rows, int64_t parts, DType delta_dtype,
          bool one_block = false) {
  const std::string name = fmt::format("add_rms_norm {} rows {} parts {} {}{}", dim, rows, parts,
                                       dtype_name(delta_dtype), one_block ? ", one block" : "");
  if (!bench.wanted(name)) return;
  Exec& ex = bench.exec();
  const auto values = static_cast<double>(rows * dim);
  const double bytes =
      values *
          (4 + 4 + 2 + static_cast<double>(parts) * static_cast<double>(dtype_size(delta_dtype))) +
      static_cast<double>(dim) * 4;
  const int64_t copies = copies_of(bench, rows, bytes);
  std::vector<TensorView> x, delta, y;
  for (int64_t i = 0; i < copies; ++i) {
    x.push_back(bench.random(DType::kF32, {rows, dim}));
    delta.push_back(bench.random(delta_dtype, {parts, rows, dim}, 1e-3f));
    y.push_back(bench.zeros(ex.activation, {ops::num_k_tiles(dim), rows, ops::kTileK}));
  }
  const TensorView weight = bench.random(DType::kF32, {dim});
  const CudaBench::Time time = bench.measure(
      [&](int64_t i) {
        const auto copy = static_cast<size_t>(i % copies);
        if (!one_block) return ops::add_rms_norm(ex, x[copy], delta[copy], weight, 1e-5f, y[copy]);
        ops::cuda::AddRmsNormParams params;
        params.x = x[copy].as<float>();
        params.delta = delta[copy].data;
        params.delta_dtype = delta_dtype;
        params.weight = weight.as<float>();
        params.y = y[copy].data;
        params.y_dtype = ex.activation;
        params.num_rows = params.count = rows;
        params.dim = params.x_stride = params.delta_stride = dim;
        params.part_stride = rows * dim;
        params.parts = static_cast<int>(parts);
        params.eps = 1e-5f;
        params.inverse_dim = 1.0f / static_cast<float>(dim);
        params.one_block_per_row = true;
        ops::cuda::add_rms_norm(params, *ex.cuda);
      },
      copies);
  std::vector<float> row = bench.download(x[0].rows(rows - 1, 1));
  const std::vector<float> w = bench.download(weight), result = bench.download(y[0]);
  std::vector<double> expected(static_cast<size_t>(dim));
  reference::add_rms_norm(row.data(), nullptr, w.data(), 1e-5f, dim, expected.data());
  bool correct = true;
  for (int64_t i = 0; i < dim; ++i)
    correct = correct && close(result[static_cast<size_t>(ops::tiled_offset(rows - 1, i, rows))],
                               expected[static_cast<size_t>(i)]);
  bench.expect(correct, name);
  bench.report(name, time, bytes);
  bench.free_tensors();
}

void embedding(CudaBench& bench, int64_t dim, int64_t rows) {
  const std::string name = fmt::format("embedding {} rows {}", dim, rows);
  if (!bench.wanted(name)) return;
  Exec& ex = bench.exec();
  const int64_t vocab = 32768;
  const int tile_rows = 128;
  quant::LinearWeight table;
  table.format = ex.activation == DType::kF16 ? quant::Format::kF16 : quant::Format::kBF16;
  table.layout = quant::Layout::kTiled;
  table.n = vocab;
  table.k = dim;
  table.tile_rows = tile_rows;
  const TensorView packed = bench.random(
      ex.activation, {vocab / tile_rows, ops::num_k_tiles(dim), tile_rows, ops::kTileK});
  table.data = packed.data;
  const int64_t copies = 64;  // other rows of the table each time
  std::vector<TensorView> ids;
  for (int64_t c = 0; c < copies; ++c) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < rows; ++i)
      values.push_back(static_cast<int32_t>((c * rows + i) * 2654435761 % vocab));
    ids.push_back(bench.upload(values));
  }
  const TensorView y = bench.zeros(DType::kF32, {rows, dim});
  const CudaBench::Time time = bench.measure(
      [&](int64_t i) { ops::embedding(ex, ids[static_cast<size_t>(i % copies)], table, y); },
      copies);
  ops::embedding(ex, ids[1], table, y);
  const std::vector<float> result = bench.download(y.rows(rows - 1, 1));
  const int64_t id = (2 * rows - 1) * 2654435761 % vocab;
  const std::vector<float> tile = bench.download(packed.part(id / tile_rows));
  bool correct = true;
  for (int64_t i = 0; i < dim; ++i)
    correct =
        correct && result[static_cast<size_t>(i)] ==
                       tile[static_cast<size_t>(ops::tiled_offset(id % tile_rows, i, tile_rows))];
  bench.expect(correct, name);
  bench.report(name, time, static_cast<double>(rows * dim) * (2 + 4));
  bench.free_tensors();
}

void gather(CudaBench& bench, int64_t dim, int64_t rows) {
  const std::string name = fmt::format("gather_rows {} rows {}", dim, rows);
  if (!bench.wanted(name)) return;
  Exec& ex = bench.exec();
  const TensorView x = bench.random(DType::kF32, {2048, dim});
  const TensorView y = bench.zeros(DType::kF32, {rows, dim});
  std::vector<int32_t> index;
  for (int64_t i = 0; i < rows; ++i) index.push_back(static_cast<int32_t>(i * 31 % 2048));
  const TensorView index_view = bench.upload(index);
  const CudaBench::Time time =
      bench.measure([&](int64_t) { ops::gather_rows(ex, x, index_view, y); });
  bench.expect(bench.download(y.rows(rows - 1, 1)) == bench.download(x.rows(index.back(), 1)),
               name);
  bench.report(name, time, static_cast<double>(rows * dim) * 8);
  bench.free_tensors();
}

void silu(CudaBench& bench, int64_t dim, int64_t rows, DType input) {
  const std::string name = fmt::format("silu_mul {} rows {} {}", dim, rows, dtype_name(input));
  if (!bench.wanted(name)) return;
  Exec& ex = bench.exec();
  const double bytes =
      static_cast<double>(rows * dim) * (2 * static_cast<double>(dtype_size(input)) + 2);
  const int64_t copies = copies_of(bench, rows, bytes);
  std::vector<TensorView> gate_up, y;
  for (int64_t i = 0; i < copies; ++i) {
    gate_up.push_back(bench.random(input, {rows, 2 * dim}, 2.0f));
    y.push_back(bench.zeros(ex.activation, {ops::num_k_tiles(dim), rows, ops::kTileK}));
  }
  const CudaBench::Time time = bench.measure(
      [&](int64_t i) {
        const auto copy = static_cast<size_t>(i % copies);
        ops::silu_mul(ex, gate_up[copy], y[copy]);
      },
      copies);
  const std::vector<float> source = bench.download(gate_up[0].rows(rows - 1, 1));
  const std::vector<float> result = bench.download(y[0]);
  bool correct = true;
  for (int64_t i = 0; i < dim; ++i)
    correct = correct && close(result[static_cast<size_t>(ops::tiled_offset(rows - 1, i, rows))],
                               reference::silu_mul(source[static_cast<size_t>(i)],
                                                   source[static_cast<size_t>(dim + i)]));
  bench.expect(correct, name);
  bench.report(name, time, bytes);
  bench.free_tensors();
}

void cases(CudaBench& bench) {
  const DType half = bench.exec().activation;
  for (int64_t dim : {2048, 4096, 8192}) {  // Llama-3.2-1B, Llama-3.1-8B, 70B
    for (int64_t rows : {1, 8, 64}) {
      for (int64_t parts : {1, 4, 8}) norm(bench, dim, rows, parts, DType::kF32);
      if (rows <= 8) norm(bench, dim, rows, 4, DType::kF32, /*one_block=*/true);
    }
    for (int64_t rows : {256, 2048}) norm(bench, dim, rows, 1, half);
    norm(bench, dim, 256, 4, DType::kF32);
  }
  for (int64_t rows : {1, 64, 2048}) embedding(bench, 4096, rows);
  for (int64_t rows : {1, 64, 2048}) gather(bench, 4096, rows);
  for (int64_t rows : {1, 64}) silu(bench, 14336, rows, DType::kF32);
  silu(bench, 14336, 2048, half);
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  return donar::bench::run_cuda_bench(argc, argv, donar::bench::cases);
}
