// linear of every weight format, linear_silu_mul, and the packing that loading does.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/ops/cpu_bench.h"
#include "ops/linear.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

constexpr int64_t kDistinct = 16;  // rows of a part that differ; 37 columns on, it is another one
constexpr int64_t kColumnStep = 37;

// Cold copies of a group of `parts` matrices of [n, k]. Random bytes with finite scales would do
// for timing, but the check wants real rows: 16 of them for each part, repeated.
struct Weights {
  Weights(const CpuBench& bench, quant::Format format, int parts, int64_t n, int64_t k)
      : format(format),
        parts(parts),
        n(n),
        k(k),
        stored(reference::random_matrix(format, parts * kDistinct, k, 1)),
        part_bytes(ops::packed_bytes(format, quant::Layout::kRows16, n, k)),
        copies(bench.cold_copies(parts * part_bytes)) {
    std::memset(copies.data, 0, static_cast<size_t>(copies.bytes));
    for (int part = 0; part < parts; ++part) {
      for (int64_t row = 0; row < n; row += kDistinct) {
        ops::repack_rows(format, quant::Layout::kRows16, n, k, row, std::min(kDistinct, n - row),
                         stored.row(part * kDistinct), copies.data + part * part_bytes);
      }
    }
    copies.repeat_first();
  }

  quant::LinearGroup group(int64_t copy) const {
    quant::LinearGroup group;
    for (int part = 0; part < parts; ++part) {
      group.parts[static_cast<size_t>(group.count++)] = {
          format, quant::Layout::kRows16, n, k, copies.at(copy) + part * part_bytes, nullptr};
    }
    return group;
  }

  // Output i of a part and the sum of absolute products that its rounding is measured by.
  reference::Sum expected(const std::vector<double>& input, int part, int64_t i) const {
    return reference::dot(input, stored.row_values(part * kDistinct + i % kDistinct));
  }

  CpuBench::Cost cost(const CpuBench& bench, int64_t rows) const {
    return {.bytes = static_cast<double>(copies.bytes),
            .operations = 2.0 * parts * static_cast<double>(n * k * rows),
            .tera_peak = bench.peak_of(format)};
  }

  quant::Format format;
  int parts;
  int64_t n, k;
  reference::StoredMatrix stored;
  int64_t part_bytes;
  CpuBench::Copies copies;
};

// Calls check(row, its input as the op rounds it) for four rows, or all if there are fewer.
template <class Check>
void for_some_rows(const Weights& weights, const std::vector<float>& x, int64_t rows, Check check) {
  for (int64_t r = 0; r < rows; r += std::max<int64_t>(rows / 3, 1)) {
    const float* row = &x[static_cast<size_t>(r * weights.k)];
    check(r, reference::rounded_input(row, weights.k, weights.format));
  }
}

void linear(CpuBench& bench, quant::Format format, int64_t n, int64_t k,
            std::initializer_list<int64_t> row_counts) {
  const auto name_of = [&](int64_t rows) {
    return fmt::format("linear {} {}x{} rows {}", quant::info(format).name, n, k, rows);
  };
  std::vector<int64_t> wanted;
  for (int64_t rows : row_counts) {
    if (bench.wanted(name_of(rows))) wanted.push_back(rows);
  }
  if (wanted.empty()) return;
  const Weights weights(bench, format, /*parts=*/1, n, k);
  for (int64_t rows : wanted) {
    std::vector<float> x = reference::random_floats(rows * k, 2);
    std::vector<float> y = poisoned(rows * n);
    const CpuBench::Run run = [&](int64_t i) {
      ops::linear(bench.exec(), floats(x, {rows, k}), weights.group(i), floats(y, {rows, n}));
    };
    run(0);
    bool correct = true;
    for_some_rows(weights, x, rows, [&](int64_t r, const std::vector<double>& input) {
      for (int64_t i = 0; i < n; i += kColumnStep) {
        const reference::Sum sum = weights.expected(input, 0, i);
        const double error = std::fabs(y[static_cast<size_t>(r * n + i)] - sum.value);
        correct = correct && error <= 1e-5 * sum.magnitude;
      }
    });
    bench.report(name_of(rows), bench.measure_beside_read(run, weights.copies),
                 weights.cost(bench, rows), correct);
  }
}

void linear_silu_mul(CpuBench& bench, quant::Format format, int64_t dim, int64_t k, int64_t rows) {
  const std::string name =
      fmt::format("linear_silu_mul {} 2x{}x{} rows {}", quant::info(format).name, dim, k, rows);
  if (!bench.wanted(name)) return;
  const Weights weights(bench, format, /*parts=*/2, dim, k);
  std::vector<float> x = reference::random_floats(rows * k, 2);
  std::vector<float> y = poisoned(rows * dim);
  const CpuBench::Run run = [&](int64_t i) {
    ops::linear_silu_mul(bench.exec(), floats(x, {rows, k}), weights.group(i),
                         floats(y, {rows, dim}));
  };
  run(0);
  bool correct = true;
  for_some_rows(weights, x, rows, [&](int64_t r, const std::vector<double>& input) {
    for (int64_t i = 0; i < dim; i += kColumnStep) {
      const reference::Sum gate = weights.expected(input, 0, i);
      const reference::Sum up = weights.expected(input, 1, i);
      const double value = reference::silu_mul(gate.value, up.value);
      // silu changes by at most 1.1 times its argument.
      const double tolerance =
          1e-5 * (1.1 * gate.magnitude * (std::fabs(up.value) + 1e-5 * up.magnitude) +
                  std::fabs(gate.value) * up.magnitude) +
          1e-6 * std::fabs(value);
      correct = correct && std::fabs(y[static_cast<size_t>(r * dim + i)] - value) <= tolerance;
    }
  });
  bench.report(name, bench.measure_beside_read(run, weights.copies), weights.cost(bench, rows),
               correct);
}

// File rows to the kernels' layout, on one thread, beside a plain copy.
void repack(CpuBench& bench, quant::Format format, int64_t n, int64_t k) {
  const std::string name = fmt::format("repack {} {}x{}", quant::info(format).name, n, k);
  if (!bench.wanted(name)) return;
  const reference::StoredMatrix stored = reference::random_matrix(format, n, k, 11);
  std::vector<std::byte> packed(
      static_cast<size_t>(ops::packed_bytes(format, quant::Layout::kRows16, n, k)));
  const CpuBench::Run run = [&](int64_t) {
    ops::repack_rows(format, quant::Layout::kRows16, n, k, 0, n, stored.row(0), packed.data());
  };
  run(0);
  bool correct = true;
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t i = 0; i < n; i += kColumnStep) {
    ops::unpack_packed_row({format, quant::Layout::kRows16, n, k, packed.data(), nullptr}, i,
                           row.data());
    correct = correct && row == stored.row_values(i);
  }
  const auto bytes = static_cast<int64_t>(stored.bytes.size() + packed.size());
  bench.report(name, bench.measure_beside_copy(run, bytes, /*one_thread=*/true),
               {.bytes = static_cast<double>(bytes)}, correct);
}

}  // namespace

void linear_cases(CpuBench& bench) {
  using quant::Format;
  for (const quant::FormatInfo& format : quant::formats()) {
    linear(bench, format.format, 8192, 2048, {1, 8, 16, 64, 256, 1024});
    linear(bench, format.format, 2048, 2048, {1, 8, 256});
    linear(bench, format.format, 2048, 8192, {1, 8, 256});
  }
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{960, 576},
                             {576, 576},
                             {3072, 576},
                             {576, 1536}}) {  // SmolLM2-135M
    linear(bench, Format::kQ4_1, n, k, {1, 8, 16, 64, 256});
  }
  linear(bench, Format::kQ8_0, 49152, 576, {1, 8, 16});  // its head
  for (int64_t rows : {1, 8, 256}) {
    linear_silu_mul(bench, Format::kQ4_1, 1536, 576, rows);
    linear_silu_mul(bench, Format::kQ4_0, 8192, 2048, rows);
  }
  for (const quant::FormatInfo& format : quant::formats()) repack(bench, format.format, 2048, 2048);
}

}  // namespace donar::bench
