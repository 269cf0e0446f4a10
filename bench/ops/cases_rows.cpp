// The ops between the products: norms, activation, rotation and the write of keys and values,
// embedding, picked rows; and what a fork costs. Their inputs were written by the op before, so
// they are compared with a copy of as much memory in the caches, not with a read of memory.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "bench/ops/cpu_bench.h"
#include "ops/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/linear.h"
#include "ops/qk_norm_rope_store.h"
#include "ops/silu_mul.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

bool close(double value, double expected, double tolerance) {
  return std::fabs(value - expected) <= tolerance * (1 + std::fabs(expected));
}

template <class T>
const T* row_of(const std::vector<T>& values, int64_t row, int64_t width) {
  return &values[static_cast<size_t>(row * width)];
}
template <class T>
T* row_of(std::vector<T>& values, int64_t row, int64_t width) {
  return &values[static_cast<size_t>(row * width)];
}

// bytes: read and written; footprint: of the memory that they lie in.
void report(CpuBench& bench, const std::string& name, const CpuBench::Run& run, int64_t bytes,
            int64_t footprint, bool correct) {
  bench.report(name, bench.measure_beside_copy(run, footprint),
               {.bytes = static_cast<double>(bytes)}, correct);
}

// picked: 0, or as many rows of them as are sampled at the end of a step.
void add_rms_norm(CpuBench& bench, int64_t dim, int64_t rows, int64_t picked = 0) {
  const std::string name = picked > 0
                               ? fmt::format("add_rms_norm {} rows {} of {}", dim, picked, rows)
                               : fmt::format("add_rms_norm {} rows {}", dim, rows);
  if (!bench.wanted(name)) return;
  std::vector<float> x = reference::random_floats(rows * dim, 5);
  // Small, as it is added in every run.
  std::vector<float> delta = reference::random_floats(rows * dim, 6, 1e-3f);
  std::vector<float> weight = reference::random_floats(dim, 7);
  std::vector<int32_t> index;
  for (int64_t i = 0; i < picked; ++i)
    index.push_back(static_cast<int32_t>((i + 1) * rows / picked - 1));
  const int64_t outputs = picked > 0 ? picked : rows;
  std::vector<float> y = poisoned(outputs * dim);
  std::vector<float> expected_x = x;
  const CpuBench::Run run = [&](int64_t) {
    ops::add_rms_norm(bench.exec(), floats(x, {rows, dim}), floats(delta, {rows, dim}),
                      floats(weight, {dim}), 1e-5f, floats(y, {outputs, dim}),
                      picked > 0 ? ints(index, {picked}) : TensorView{});
  };
  run(0);
  bool correct = true;
  std::vector<double> expected(static_cast<size_t>(dim));
  for (int64_t i = 0; i < outputs; ++i) {
    const int64_t row = picked > 0 ? index[static_cast<size_t>(i)] : i;
    reference::add_rms_norm(row_of(expected_x, row, dim), row_of(delta, row, dim), weight.data(),
                            1e-5f, dim, expected.data());
    for (int64_t d = 0; d < dim; ++d)
      correct = correct && close(row_of(y, i, dim)[d], expected[static_cast<size_t>(d)], 1e-5);
  }
  if (picked > 0) {  // x is only read
    report(bench, name, run, outputs * dim * 12, outputs * dim * 12, correct);
  } else {
    report(bench, name, run, outputs * dim * 16, outputs * dim * 12, correct && x == expected_x);
  }
}

void silu_mul(CpuBench& bench, int64_t dim, int64_t rows) {
  const std::string name = fmt::format("silu_mul {} rows {}", dim, rows);
  if (!bench.wanted(name)) return;
  std::vector<float> gate_up = reference::random_floats(rows * 2 * dim, 8, 3.0f);
  std::vector<float> y = poisoned(rows * dim);
  const CpuBench::Run run = [&](int64_t) {
    ops::silu_mul(bench.exec(), floats(gate_up, {rows, 2 * dim}), floats(y, {rows, dim}));
  };
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = row_of(gate_up, r, 2 * dim);
    for (int64_t i = 0; i < dim; ++i) {
      correct =
          correct && close(row_of(y, r, dim)[i], reference::silu_mul(gate[i], gate[dim + i]), 1e-6);
    }
  }
  report(bench, name, run, rows * dim * 12, rows * dim * 12, correct);
}

// [rows, 2, head_dim / 2]: cos, then sin.
std::vector<float> rope_table(int64_t rows, int head_dim) {
  std::vector<float> angles(static_cast<size_t>(rows * head_dim));
  for (int64_t p = 0; p < rows; ++p) {
    float* row = row_of(angles, p, head_dim);
    for (int i = 0; i < head_dim / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / head_dim);
      row[i] = static_cast<float>(std::cos(angle));
      row[head_dim / 2 + i] = static_cast<float>(std::sin(angle));
    }
  }
  return angles;
}

void qk_norm_rope_store(CpuBench& bench, int q_heads, int kv_heads, int head_dim, bool norm,
                        int64_t rows) {
  const std::string name = fmt::format("qk_norm_rope_store {}/{}x{}{} rows {}", q_heads, kv_heads,
                                       head_dim, norm ? " normed" : "", rows);
  if (!bench.wanted(name)) return;
  const int64_t width = int64_t{q_heads + 2 * kv_heads} * head_dim;
  const int64_t blocks = (rows + kv::kBlockTokens - 1) / kv::kBlockTokens;
  std::vector<float> qkv = reference::random_floats(rows * width, 9);
  const std::vector<float> before = qkv;
  std::vector<float> angles = rope_table(rows, head_dim);
  // Ones with signs: every run multiplies the queries of the one before, and others would grow or
  // become denormal.
  std::vector<float> weight(static_cast<size_t>(head_dim));
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = i % 3 == 0 ? -1.0f : 1.0f;
  std::vector<int32_t> index(static_cast<size_t>(rows));
  std::iota(index.begin(), index.end(), 0);
  std::vector<bf16> cache(static_cast<size_t>(blocks * 2 * kv_heads * kv::kBlockTokens * head_dim),
                          bf16(std::numeric_limits<float>::quiet_NaN()));
  const kv::KvLayer layer{cache.data(), DType::kBF16, blocks, kv_heads, head_dim};
  const TensorView norms = norm ? floats(weight, {head_dim}) : TensorView{};
  const CpuBench::Run run = [&](int64_t) {
    ops::qk_norm_rope_store(bench.exec(), floats(qkv, {rows, width}), ints(index, {rows}),
                            ints(index, {rows}), norms, norms, 1e-6f,
                            floats(angles, {rows, 2, head_dim / 2}), q_heads, layer);
  };
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < rows; ++r) {
    for (int head = 0; head < q_heads + kv_heads; ++head) {
      const bool is_key = head >= q_heads;
      const auto expected = reference::norm_rope(
          row_of(before, r, width) + int64_t{head} * head_dim, norm ? weight.data() : nullptr,
          1e-6f, row_of(angles, r, head_dim), head_dim);
      for (int d = 0; d < head_dim; ++d) {
        const double value = expected[static_cast<size_t>(d)];
        const int64_t key = layer.index(r / kv::kBlockTokens, /*is_value=*/false, head - q_heads,
                                        static_cast<int>(r % kv::kBlockTokens));
        // Keys are rounded to 8 bits.
        correct =
            correct && (is_key ? std::fabs(reference::cache_value(layer, key + d) - value) <=
                                     std::fabs(value) / 256 + 1e-5
                               : close(row_of(qkv, r, width)[head * head_dim + d], value, 1e-5));
      }
    }
    for (int i = 0; i < kv_heads * head_dim; ++i) {
      const int64_t at = layer.index(r / kv::kBlockTokens, /*is_value=*/true, i / head_dim,
                                     static_cast<int>(r % kv::kBlockTokens));
      const float value = row_of(before, r, width)[(q_heads + kv_heads) * head_dim + i];
      correct = correct &&
                reference::cache_value(layer, at + i % head_dim) == static_cast<float>(bf16(value));
    }
  }
  // Queries are read and written; keys and values read, and written as 16 bits.
  const int64_t keys_and_values = rows * head_dim * 2 * kv_heads * 6;
  report(bench, name, run, rows * head_dim * q_heads * 8 + keys_and_values,
         rows * head_dim * q_heads * 4 + keys_and_values, correct);
}

void embedding(CpuBench& bench, quant::Format format, int64_t dim, int64_t rows) {
  const std::string name =
      fmt::format("embedding {} {} rows {}", quant::info(format).name, dim, rows);
  if (!bench.wanted(name)) return;
  const int64_t vocab = 4096;
  const reference::StoredMatrix stored = reference::random_matrix(format, vocab, dim, 10);
  std::vector<std::byte> packed(
      static_cast<size_t>(ops::packed_bytes(format, quant::Layout::kRows16, vocab, dim)));
  ops::repack_rows(format, quant::Layout::kRows16, vocab, dim, 0, vocab, stored.row(0),
                   packed.data());
  const quant::LinearWeight table{format, quant::Layout::kRows16, vocab,
                                  dim,    packed.data(),          nullptr};
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(i * 2654435761u % vocab));
  std::vector<float> y = poisoned(rows * dim);
  const CpuBench::Run run = [&](int64_t) {
    ops::embedding(bench.exec(), ints(ids, {rows}), table, floats(y, {rows, dim}));
  };
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<float> expected = stored.row_values(ids[static_cast<size_t>(r)]);
    correct =
        correct && std::ranges::equal(expected, std::span(row_of(y, r, dim), expected.size()));
  }
  const int64_t bytes = rows * (quant::row_bytes(format, dim) + dim * 4);
  report(bench, name, run, bytes, bytes, correct);
}

// Every second row, and so the last one.
void gather_rows(CpuBench& bench, int64_t dim, int64_t rows) {
  const std::string name = fmt::format("gather_rows {} rows {}", dim, rows);
  if (!bench.wanted(name)) return;
  std::vector<float> x = reference::random_floats(rows * 2 * dim, 12);
  std::vector<float> y = poisoned(rows * dim);
  std::vector<int32_t> index;
  for (int64_t i = 0; i < rows; ++i) index.push_back(static_cast<int32_t>(2 * i + 1));
  const CpuBench::Run run = [&](int64_t) {
    ops::gather_rows(bench.exec(), floats(x, {rows * 2, dim}), ints(index, {rows}),
                     floats(y, {rows, dim}));
  };
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < rows; ++r) {
    const float* expected = row_of(x, 2 * r + 1, dim);
    correct = correct && std::equal(expected, expected + dim, row_of(y, r, dim));
  }
  report(bench, name, run, rows * dim * 8, rows * dim * 8, correct);
}

void fork(CpuBench& bench) {
  const std::string name = "fork and join, 4 pieces per thread";
  if (!bench.wanted(name)) return;
  ThreadPool& pool = bench.pool();
  std::atomic<int64_t> pieces{0};
  int64_t runs = 0;
  const CpuBench::Timed time = CpuBench::measure([&](int64_t) {
    pool.parallel_for(pool.num_threads() * 4, 1,
                      [&](int64_t, int64_t) { pieces.fetch_add(1, std::memory_order_relaxed); });
    ++runs;
  });
  bench.report(name, time, {}, pieces == runs * pool.num_threads() * 4);
}

}  // namespace

void row_cases(CpuBench& bench) {
  fork(bench);
  struct Model {
    int64_t dim, ffn;
    int q_heads, kv_heads;
  };
  for (const Model& model : {Model{576, 1536, 9, 3}, Model{2048, 8192, 32, 8}}) {
    for (int64_t rows : {1, 16, 256}) add_rms_norm(bench, model.dim, rows);
    add_rms_norm(bench, model.dim, 256, /*picked=*/16);
    for (int64_t rows : {1, 16, 256}) silu_mul(bench, model.ffn, rows);
    for (int64_t rows : {1, 16, 256})
      qk_norm_rope_store(bench, model.q_heads, model.kv_heads, 64, /*norm=*/false, rows);
    for (int64_t rows : {16, 256}) gather_rows(bench, model.dim, rows);
  }
  for (int64_t rows : {1, 256}) qk_norm_rope_store(bench, 16, 8, 128, /*norm=*/true, rows);
  for (const quant::FormatInfo& format : quant::formats()) {
    for (int64_t rows : {1, 256}) embedding(bench, format.format, 2048, rows);
  }
}

}  // namespace donar::bench
