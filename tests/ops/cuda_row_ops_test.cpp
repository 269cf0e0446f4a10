// add_rms_norm, embedding, gather_rows, silu_mul on a CUDA device against the naive reference.
#include <numeric>

#include "ops/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/silu_mul.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

constexpr float kEps = 1e-5f;
constexpr int64_t kDims[] = {32, 48, 2 * 61, 576, 2048, 3584, 4096, 8192, 12288};

// What rounding to 16 bits takes, and a little for the float in front of it.
double tolerance(DType dtype, double value) {
  return dtype == DType::kF16 ? 0x1.03p-11 * std::fabs(value) + 1e-7
                              : 0x1.03p-8 * std::fabs(value) + 1e-7;
}

// What an op's caller gives add_rms_norm: parts of float, or one of 16 bits.
struct Delta {
  int64_t parts = 0;  // 0: nothing to add
  bool is_16_bit = false;
};

class CudaAddRmsNorm : public CudaTest {
 public:
  struct Case {
    int64_t rows, dim;
    Delta delta;
    std::vector<float> x, parts, weight;
  };
  Case make(int64_t rows, int64_t dim, Delta delta, uint32_t seed) {
    Case c{rows, dim, delta, reference::random_floats(rows * dim, seed, 3.0f), {}, {}};
    c.parts = reference::random_floats(delta.parts * rows * dim, seed + 1);
    if (delta.is_16_bit) c.parts = rounded_to(ex.activation, c.parts);
    c.weight = reference::random_floats(dim, seed + 2);
    return c;
  }
  TensorView upload_delta(const Case& c) {
    if (c.delta.parts == 0) return {};
    return upload_as(c.delta.is_16_bit ? ex.activation : DType::kF32, c.parts,
                     {c.delta.parts, c.rows, c.dim});
  }
  // The residual as it has to be, to the bit: the parts are added up first, in order.
  static std::vector<float> residual(const Case& c) {
    std::vector<float> x = c.x;
    const size_t count = x.size();
    for (size_t i = 0; i < count && c.delta.parts > 0; ++i) {
      float sum = 0;
      for (size_t part = 0; part < static_cast<size_t>(c.delta.parts); ++part)
        sum += c.parts[part * count + i];
      x[i] += sum;
    }
    return x;
  }
  void expect_norm_of(const std::vector<float>& x, const std::vector<float>& weight, int64_t dim,
                      const std::vector<float>& y, const std::string& what) {
    const auto rows = static_cast<int64_t>(y.size()) / dim;
    std::vector<double> expected(static_cast<size_t>(dim));
    Worst worst;
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<float> row(x.begin() + r * dim, x.begin() + (r + 1) * dim);
      reference::add_rms_norm(row.data(), nullptr, weight.data(), kEps, dim, expected.data());
      for (int64_t i = 0; i < dim; ++i) {
        const double value = expected[static_cast<size_t>(i)];
        worst.add(r, i, y[static_cast<size_t>(r * dim + i)], value,
                  tolerance(ex.activation, value));
      }
    }
    worst.expect_within(what);
  }
  // Runs the case and gives y; checks x and y.
  std::vector<float> check(const Case& c) {
    const std::string what =
        fmt::format("{} rows {} dim {} parts {}{}", dtype_name(ex.activation), c.rows, c.dim,
                    c.delta.parts, c.delta.is_16_bit ? " of 16 bits" : "");
    const TensorView x = upload(c.x, {c.rows, c.dim});
    const TensorView y = poisoned_activation(c.rows, c.dim);
    add_rms_norm(ex, x, upload_delta(c), upload(c.weight, {c.dim}), kEps, y);
    const std::vector<float> expected = residual(c), actual = download(x);
    EXPECT_TRUE(same_bits(actual.data(), expected.data(), c.rows * c.dim))
        << what << ": the residual is exact";
    const std::vector<float> result = download_activation(y, c.rows, c.dim);
    expect_norm_of(expected, c.weight, c.dim, result, what);
    free_tensors();
    return result;
  }
};

TEST_F(CudaAddRmsNorm, equals_the_reference_for_every_kind_of_delta) {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    uint32_t seed = 1;
    for (int64_t dim : kDims) {
      for (int64_t rows : {1, 2, 3, 17, 64, 65, 300}) {
        // All kinds on few rows, one after the other on more.
        const Delta deltas[] = {{0}, {1}, {2}, {3}, {4}, {5}, {8}, {1, true}};
        for (size_t i = 0; i < std::size(deltas); ++i) {
          if (rows > 3 && i % 4 != static_cast<size_t>(seed) % 4) continue;
          check(make(rows, dim, deltas[i], ++seed * 16));
        }
      }
    }
  }
}

TEST_F(CudaAddRmsNorm, equals_the_reference_for_the_rows_of_a_prompt) {
  for (Delta delta : {Delta{1, true}, Delta{2}}) {
    for (int64_t dim : {576, 4096}) check(make(2048, dim, delta, 7));
  }
}

TEST_F(CudaAddRmsNorm, rows_give_the_same_bits_alone_and_in_any_company) {
  for (int64_t dim : kDims) {
    const Case all = make(300, dim, {4}, 11);
    const std::vector<float> expected = check(all);
    for (int64_t rows : {1, 2, 5, 64, 65, 129}) {
      const int64_t first = 300 - rows;
      Case some{rows, dim, all.delta, {}, {}, all.weight};
      some.x.assign(all.x.begin() + first * dim, all.x.end());
      for (int64_t part = 0; part < all.delta.parts; ++part) {
        const auto begin = all.parts.begin() + (part * 300 + first) * dim;
        some.parts.insert(some.parts.end(), begin, begin + rows * dim);
      }
      const std::vector<float> alone = check(some);
      EXPECT_TRUE(same_bits(alone.data(), &expected[static_cast<size_t>(first * dim)], rows * dim))
          << rows << " of 300 rows, dim " << dim;
    }
  }
}

TEST_F(CudaAddRmsNorm, picked_rows_come_in_their_order_and_x_stays) {
  for (int64_t dim : {48, 2 * 61, 4096}) {
    for (Delta delta : {Delta{0}, Delta{4}, Delta{1, true}}) {
      const Case c = make(19, dim, delta, 23);
      const std::vector<int32_t> picked = {18, 0, 7, 7};
      const TensorView x = upload(c.x, {c.rows, dim});
      const TensorView y = poisoned_activation(4, dim);
      add_rms_norm(ex, x, upload_delta(c), upload(c.weight, {dim}), kEps, y,
                   upload(picked, {static_cast<int64_t>(picked.size())}));
      const std::vector<float> after = download(x), sums = residual(c);
      EXPECT_TRUE(same_bits(after.data(), c.x.data(), c.rows * dim)) << "x was written";
      std::vector<float> rows;
      for (int32_t row : picked)
        rows.insert(rows.end(), sums.begin() + row * dim, sums.begin() + (row + 1) * dim);
      expect_norm_of(rows, c.weight, dim, download_activation(y, 4, dim),
                     fmt::format("picked, dim {} parts {}", dim, delta.parts));
      free_tensors();
    }
  }
}

TEST_F(CudaAddRmsNorm, rows_that_padding_names_do_not_fault) {
  const Case c = make(3, 64, {1}, 29);
  const TensorView y = poisoned_activation(3, 64);
  add_rms_norm(ex, upload(c.x, {3, 64}), upload_delta(c), upload(c.weight, {64}), kEps, y,
               upload(std::vector<int32_t>{-1, 1 << 30, 1}, {3}));
  std::vector<float> sums = residual(c);
  const std::vector<float> result = download_activation(y, 3, 64);
  expect_norm_of({sums.begin() + 64, sums.begin() + 128}, c.weight, 64,
                 {result.begin() + 128, result.end()}, "the row that exists");
}

// Every op after the other in a graph, as a step has them: what one writes is what the next reads.
TEST_F(CudaAddRmsNorm, chain_in_a_graph_gives_the_bits_of_single_launches) {
  for (int64_t rows : {1, 33, 300}) {
    const int64_t dim = 2048;
    const Case c = make(rows, dim, {4}, 31);
    const TensorView table_x = upload(c.x, {rows, dim});
    std::vector<int32_t> order(static_cast<size_t>(rows));
    std::iota(order.rbegin(), order.rend(), 0);
    const TensorView index = upload(order, {rows}), weight = upload(c.weight, {dim});
    const TensorView delta = upload_delta(c), x = poisoned(DType::kF32, {rows, dim});
    const TensorView h = poisoned_activation(rows, dim), last = poisoned_activation(rows, dim);
    const auto step = [&](bool alone) {
      const auto between = [&] {
        if (alone) wait();
      };
      gather_rows(ex, table_x, index, x);
      between();
      for (int layer = 0; layer < 5; ++layer) {
        add_rms_norm(ex, x, layer == 0 ? TensorView{} : delta, weight, kEps, h);
        between();
      }
      add_rms_norm(ex, x, delta, weight, kEps, last, index);
      between();
    };
    step(/*alone=*/true);
    const std::vector<uint16_t> expected_h = download_raw<uint16_t>(h);
    const std::vector<uint16_t> expected_last = download_raw<uint16_t>(last);
    const std::vector<float> expected_x = download(x);
    replay([&] { step(/*alone=*/false); }, /*times=*/20);
    EXPECT_EQ(download_raw<uint16_t>(h), expected_h) << rows << " rows";
    EXPECT_EQ(download_raw<uint16_t>(last), expected_last) << rows << " rows";
    const std::vector<float> actual = download(x);
    EXPECT_TRUE(same_bits(actual.data(), expected_x.data(), rows * dim)) << rows << " rows";
    free_tensors();
  }
}

class CudaEmbedding : public CudaTest {};

TEST_F(CudaEmbedding, rows_are_those_of_the_table_in_every_tiling) {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    for (int64_t dim : kDims) {
      const int64_t vocab = 61;
      const std::vector<float> values =
          rounded_to(dtype, reference::random_floats(vocab * dim, 41));
      std::vector<int32_t> ids = {60, 0, 31, 32, 33, 31, 7};
      for (int tile_rows : {32, 64, 96, 256}) {
        const quant::LinearWeight table = upload_weight(values, vocab, dim, tile_rows);
        const auto rows = static_cast<int64_t>(ids.size());
        const TensorView y = poisoned(DType::kF32, {rows, dim});
        embedding(ex, upload(ids, {rows}), table, y);
        const std::vector<float> result = download(y);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t id = ids[static_cast<size_t>(r)];
          EXPECT_TRUE(same_bits(&result[static_cast<size_t>(r * dim)],
                                &values[static_cast<size_t>(id * dim)], dim))
              << "id " << id << " dim " << dim << " tiles of " << tile_rows;
        }
        const std::vector<float> row = download_weight_row(table, 33);
        EXPECT_TRUE(same_bits(row.data(), &values[static_cast<size_t>(33 * dim)], dim));
        free_tensors();
      }
    }
  }
}

TEST_F(CudaEmbedding, tables_of_rows_one_after_the_other_in_every_float_format) {
  for (quant::Format format : {quant::Format::kBF16, quant::Format::kF16, quant::Format::kF32}) {
    const DType dtype = format == quant::Format::kBF16  ? DType::kBF16
                        : format == quant::Format::kF16 ? DType::kF16
                                                        : DType::kF32;
    for (int64_t dim : {48, 2 * 61, 576}) {
      const int64_t vocab = 17;
      const std::vector<float> values =
          rounded_to(dtype, reference::random_floats(vocab * dim, 43));
      const quant::LinearWeight table{format, quant::Layout::kRowMajor, vocab, dim,
                                      upload_as(dtype, values, {vocab, dim}).data};
      const TensorView y = poisoned(DType::kF32, {2, dim});
      embedding(ex, upload(std::vector<int32_t>{16, 3}, {2}), table, y);
      const std::vector<float> result = download(y);
      EXPECT_TRUE(same_bits(result.data(), &values[static_cast<size_t>(16 * dim)], dim));
      EXPECT_TRUE(
          same_bits(&result[static_cast<size_t>(dim)], &values[static_cast<size_t>(3 * dim)], dim));
    }
  }
}

TEST_F(CudaEmbedding, ids_below_zero_are_tokens_of_the_step_before) {
  const int64_t vocab = 100, dim = 576, rows = 300;
  const std::vector<float> values =
      rounded_to(ex.activation, reference::random_floats(vocab * dim, 47));
  std::vector<int32_t> previous(40), ids(static_cast<size_t>(rows));
  for (size_t i = 0; i < previous.size(); ++i) previous[i] = static_cast<int32_t>(i * 37 % 100);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = i % 3 == 0 ? static_cast<int32_t>(i % 100) : -1 - static_cast<int32_t>(i % 40);
  const TensorView y = poisoned(DType::kF32, {rows, dim});
  embedding(ex, upload(ids, {rows}), upload_weight(values, vocab, dim, 64), y,
            upload(previous, {40}));
  const std::vector<float> result = download(y);
  for (size_t i = 0; i < ids.size(); ++i) {
    const int32_t id = ids[i] >= 0 ? ids[i] : previous[static_cast<size_t>(-1 - ids[i])];
    EXPECT_TRUE(same_bits(&result[i * static_cast<size_t>(dim)],
                          &values[static_cast<size_t>(id * dim)], dim))
        << "row " << i << ", token " << ids[i];
  }
}

TEST_F(CudaEmbedding, ids_that_padding_leaves_do_not_fault) {
  const int64_t dim = 64;
  const std::vector<float> values =
      rounded_to(ex.activation, reference::random_floats(8 * dim, 53));
  const TensorView y = poisoned(DType::kF32, {4, dim});
  embedding(ex, upload(std::vector<int32_t>{-1, 8, 1 << 30, 5}, {4}),
            upload_weight(values, 8, dim, 32), y);
  const std::vector<float> result = download(y);
  EXPECT_TRUE(
      same_bits(&result[static_cast<size_t>(3 * dim)], &values[static_cast<size_t>(5 * dim)], dim));
}

class CudaGatherRows : public CudaTest {};

TEST_F(CudaGatherRows, copies_in_any_order_and_repeats_into_columns_too) {
  for (int64_t dim : {33, 48, 576, 8192}) {
    const int64_t rows = 9;
    const std::vector<float> x = reference::random_floats(rows * dim, 59);
    const std::vector<int32_t> index = {8, 0, 3, 3};
    const TensorView wide = poisoned(DType::kF32, {4, 3 * dim});
    gather_rows(ex, upload(x, {rows, dim}), upload(index, {4}), wide.columns(dim, dim));
    const std::vector<float> result = download(wide);
    for (size_t i = 0; i < index.size(); ++i) {
      const size_t row = i * static_cast<size_t>(3 * dim), width = static_cast<size_t>(dim);
      EXPECT_TRUE(same_bits(&result[row + width], &x[static_cast<size_t>(index[i]) * width], dim))
          << "row " << i << " dim " << dim;
      EXPECT_TRUE(std::isnan(result[row + width - 1]) && std::isnan(result[row + 2 * width]))
          << "columns beside were written, dim " << dim;
    }
  }
}

class CudaSiluMul : public CudaTest {};

TEST_F(CudaSiluMul, equals_the_reference_over_the_whole_range) {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    for (DType input : {DType::kF32, dtype}) {
      for (int64_t dim : {1, 15, 48, 61, 1536, 14336}) {
        for (int64_t rows : {1, 3, 65}) {
          std::vector<float> source = reference::random_floats(rows * 2 * dim, 61, 4.0f);
          for (size_t i = 0; i < source.size(); i += 13)
            source[i] *= 40.0f;  // up to +-500: exp over- and underflows
          source = rounded_to(input, source);
          const TensorView y = poisoned_activation(rows, dim);
          silu_mul(ex, upload_as(input, source, {rows, 2 * dim}), y);
          const std::vector<float> result = download_activation(y, rows, dim);
          Worst worst;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = 0; i < dim; ++i) {
              const double gate = source[static_cast<size_t>(r * 2 * dim + i)];
              const double up = source[static_cast<size_t>(r * 2 * dim + dim + i)];
              const double expected = reference::silu_mul(gate, up);
              if (dtype == DType::kF16 && std::fabs(expected) > 65000) continue;
              worst.add(r, i, result[static_cast<size_t>(r * dim + i)], expected,
                        tolerance(dtype, expected) + 1e-5 * std::fabs(expected));
            }
          }
          worst.expect_within(fmt::format("{} from {} rows {} dim {}", dtype_name(dtype),
                                          dtype_name(input), rows, dim));
          free_tensors();
        }
      }
    }
  }
}

}  // namespace
}  // namespace donar::ops
