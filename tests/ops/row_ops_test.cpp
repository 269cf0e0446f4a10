// add_rms_norm, silu_mul, gather_rows: ops of one row each.
#include "ops/add_rms_norm.h"
#include "ops/gather_rows.h"
#include "ops/silu_mul.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

TEST(AddRmsNorm, equals_the_reference_for_odd_dims_with_and_without_delta) {
  for (int64_t dim : {1, 7, 16, 17, 576, 1000}) {
    for (int64_t rows : {1, 3, 40}) {
      for (bool with_delta : {false, true}) {
        const std::vector<float> x0 = reference::random_floats(rows * dim, 1, 3.0f);
        std::vector<float> delta = reference::random_floats(rows * dim, 2);
        std::vector<float> weight = reference::random_floats(dim, 3);
        for (CpuIsa isa : available_isas()) {
          Device device(isa, /*threads=*/3);
          std::vector<float> x = x0;
          std::vector<float> y = poisoned(rows * dim);
          const TensorView d = with_delta ? view(delta, {rows, dim}) : TensorView{};
          add_rms_norm(device.ex, view(x, {rows, dim}), d, view(weight, {dim}), 1e-5f,
                       view(y, {rows, dim}));
          Worst worst;
          std::vector<float> expected_x = x0;
          std::vector<double> expected(static_cast<size_t>(dim));
          for (int64_t r = 0; r < rows; ++r) {
            float* row = &expected_x[static_cast<size_t>(r * dim)];
            reference::add_rms_norm(row,
                                    with_delta ? &delta[static_cast<size_t>(r * dim)] : nullptr,
                                    weight.data(), 1e-5f, dim, expected.data());
            for (int64_t i = 0; i < dim; ++i) {
              const double value = expected[static_cast<size_t>(i)];
              worst.add(r, i, y[static_cast<size_t>(r * dim + i)], value,
                        2e-6 * std::fabs(value) + 1e-7);
            }
          }
          worst.expect_within(fmt::format("{} rows {} dim {}", cpu_isa_name(isa), rows, dim));
          EXPECT_TRUE(same_bits(x.data(), expected_x.data(), rows * dim))
              << "the residual itself is exact";
        }
      }
    }
  }
}

TEST(AddRmsNorm, rows_alone_and_any_thread_count_give_the_same_bits) {
  const int64_t rows = 70, dim = 577;
  const std::vector<float> x0 = reference::random_floats(rows * dim, 4);
  std::vector<float> weight = reference::random_floats(dim, 5);
  for (CpuIsa isa : available_isas()) {
    std::vector<float> expected;
    for (int threads : {1, 2, 4}) {
      Device device(isa, threads);
      std::vector<float> x = x0;
      std::vector<float> y = poisoned(rows * dim);
      add_rms_norm(device.ex, view(x, {rows, dim}), {}, view(weight, {dim}), 1e-6f,
                   view(y, {rows, dim}));
      if (threads == 1) expected = y;
      EXPECT_TRUE(same_bits(y.data(), expected.data(), rows * dim));
    }
    Device device(isa);
    for (int64_t r = 0; r < rows; r += 23) {
      std::vector<float> x(x0.begin() + r * dim, x0.begin() + (r + 1) * dim);
      std::vector<float> y = poisoned(dim);
      add_rms_norm(device.ex, view(x, {1, dim}), {}, view(weight, {dim}), 1e-6f, view(y, {1, dim}));
      EXPECT_TRUE(same_bits(y.data(), &expected[static_cast<size_t>(r * dim)], dim)) << "row " << r;
    }
  }
}

TEST(SiluMul, equals_the_reference_over_the_whole_range_in_place_and_not) {
  for (int64_t dim : {1, 15, 16, 1536}) {
    for (int64_t rows : {1, 5, 33}) {
      std::vector<float> source = reference::random_floats(rows * 2 * dim, 6, 4.0f);
      for (size_t i = 0; i < source.size(); i += 13)
        source[i] *= 40.0f;  // up to +-500: exp over- and underflows
      for (CpuIsa isa : available_isas()) {
        for (bool in_place : {false, true}) {
          Device device(isa, /*threads=*/2);
          std::vector<float> gate_up = source;
          std::vector<float> out = poisoned(rows * dim);
          const TensorView both = view(gate_up, {rows, 2 * dim});
          const TensorView y = in_place ? both.columns(0, dim) : view(out, {rows, dim});
          silu_mul(device.ex, both, y);
          Worst worst;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = 0; i < dim; ++i) {
              const double gate = source[static_cast<size_t>(r * 2 * dim + i)];
              const double up = source[static_cast<size_t>(r * 2 * dim + dim + i)];
              const double expected = reference::silu_mul(gate, up);
              worst.add(r, i, y.row<float>(r)[i], expected, 1e-6 * std::fabs(expected) + 1e-30);
            }
          }
          worst.expect_within(fmt::format("{} rows {} dim {}", cpu_isa_name(isa), rows, dim));
        }
      }
    }
  }
}

TEST(GatherRows, copies_in_any_order_and_repeats) {
  const int64_t rows = 9, dim = 33;
  std::vector<float> x = reference::random_floats(rows * dim, 7);
  std::vector<int32_t> index = {8, 0, 3, 3};
  Device device(CpuIsa::kPortable);
  std::vector<float> y = poisoned(4 * dim);
  gather_rows(device.ex, view(x, {rows, dim}), view(index, {4}), view(y, {4, dim}));
  for (size_t i = 0; i < index.size(); ++i) {
    EXPECT_TRUE(same_bits(&y[i * static_cast<size_t>(dim)],
                          &x[static_cast<size_t>(index[i]) * static_cast<size_t>(dim)], dim));
  }
  std::vector<int32_t> outside = {9};
  EXPECT_DEATH(gather_rows(device.ex, view(x, {rows, dim}), view(outside, {1}),
                           view(y, {4, dim}).rows(0, 1)),
               "row 9 of 9");
}

}  // namespace
}  // namespace donar::ops
