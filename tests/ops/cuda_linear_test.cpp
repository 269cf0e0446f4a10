// Products with packed weights on CUDA against naive double sums: every number of rows up to 64,
// every split, odd shapes, both 16-bit types; a row alone and among others bit for bit; chains in a
// graph.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "ops/cuda/decode_maps.h"
#include "ops/linear.h"
#include "ops/linear_plan.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

using quant::Format;
using quant::LinearGroup;
using quant::LinearWeight;

const std::vector<int64_t>& row_counts() {
  static const std::vector<int64_t> counts = {1,  2,  3,  7,  8,  9,  15, 16, 17,
                                              24, 31, 32, 33, 47, 48, 49, 63, 64};
  return counts;
}

// x W^T + bias in double, and what its rounding is measured by.
struct Products {
  int64_t rows, n;
  std::vector<double> value, magnitude;

  static Products of(const std::vector<float>& x, const std::vector<float>& w,
                     const std::vector<float>& bias, int64_t rows, int64_t n, int64_t k) {
    Products p{rows, n, {}, {}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        double sum = bias.empty() ? 0.0 : double{bias[static_cast<size_t>(i)]};
        double magnitude = std::fabs(sum);
        const float* a = &x[static_cast<size_t>(r * k)];
        const float* b = &w[static_cast<size_t>(i * k)];
        for (int64_t j = 0; j < k; ++j) {
          const double product = double{a[j]} * double{b[j]};
          sum += product;
          magnitude += std::fabs(product);
        }
        p.value.push_back(sum);
        p.magnitude.push_back(magnitude);
      }
    }
    return p;
  }
  double at(int64_t r, int64_t i) const { return value[static_cast<size_t>(r * n + i)]; }
  double tolerance(int64_t r, int64_t i) const {
    return 4e-6 * magnitude[static_cast<size_t>(r * n + i)] + 1e-6;
  }
};

std::vector<float> first_rows(const std::vector<float>& x, int64_t rows, int64_t k) {
  return {x.begin(), x.begin() + rows * k};
}

std::string name_of(DType dtype, int64_t n, int64_t k, int64_t rows, const LinearWeight& weight) {
  return fmt::format("{} [{}, {}], {} rows, tiles of {}, {} splits{}", dtype_name(dtype), n, k,
                     rows, weight.tile_rows, weight.splits, weight.bias != nullptr ? ", bias" : "");
}

// ---- on the host: what ldmatrix and mma make of the lanes' addresses ----

// Register i of lane l: two values of row l / 4 of the 8 x 8 matrix that lanes 8i to 8i + 7
// address.
using Registers = std::array<std::array<std::array<float, 2>, 32>, 4>;
template <class Address>
Registers ldmatrix(const std::vector<float>& shared, Address address) {
  Registers registers{};
  for (size_t i = 0; i < 4; ++i) {
    for (size_t lane = 0; lane < 32; ++lane) {
      const uint32_t row = address(static_cast<int>(8 * i + lane / 4));
      EXPECT_EQ(row % 16, 0u);
      for (size_t e = 0; e < 2; ++e) registers[i][lane][e] = shared.at(row / 2 + lane % 4 * 2 + e);
    }
  }
  return registers;
}

// Adds A B to d[16][8], registers as PTX defines them for m16n8k16.
void mma(float (&d)[16][8], const Registers& a, const Registers& b, size_t b_first) {
  float left[16][16], right[16][8];
  for (size_t lane = 0; lane < 32; ++lane) {
    const size_t g = lane / 4, t = lane % 4;
    for (size_t e = 0; e < 2; ++e) {
      for (size_t i = 0; i < 4; ++i) left[g + i % 2 * 8][2 * t + e + i / 2 * 8] = a[i][lane][e];
      for (size_t i = 0; i < 2; ++i) right[2 * t + e + i * 8][g] = b[b_first + i][lane][e];
    }
  }
  for (size_t r = 0; r < 16; ++r) {
    for (size_t c = 0; c < 8; ++c) {
      for (size_t k = 0; k < 16; ++k) d[r][c] += left[r][k] * right[k][c];
    }
  }
}

TEST(DecodeMaps, lanes_get_the_operands_of_their_mma) {
  const int64_t weight_rows = 32;
  // Small whole numbers: sums are exact in every order.
  const auto value = [](int64_t row, int64_t k) {
    return static_cast<float>((row * 7 + k * 5 + row * k) % 9 - 4);
  };
  const auto tiled = [&](int64_t rows, int64_t seed) {
    std::vector<float> values(static_cast<size_t>(rows * kTileK));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < kTileK; ++k)
        values[static_cast<size_t>(tiled_offset(r, k, rows))] = value(r + seed, k);
    }
    return values;
  };
  const std::vector<float> weights = tiled(weight_rows, 0);
  for (const bool deep : {true, false}) {
    const std::vector<float> x = tiled(deep ? 8 : 32, 100);
    for (int64_t tile = 0; tile < weight_rows / 16; ++tile) {
      for (int64_t pair = 0; pair < (deep ? 1 : 2); ++pair) {
        float d[2][16][8] = {};
        Registers b{};
        for (int k16 = 0; k16 < kTileK / cuda::kMmaK; ++k16) {
          const Registers a = ldmatrix(weights, [&](int lane) {
            return cuda::at_k16(
                static_cast<uint32_t>(tile * 16 * cuda::kRowBytes) + cuda::weight_lane_offset(lane),
                k16);
          });
          if (!deep || k16 % 2 == 0) {
            b = ldmatrix(x, [&](int lane) {
              return cuda::at_k16(cuda::x_lane_offset(lane, deep), k16) +
                     static_cast<uint32_t>(pair * 16 * cuda::kRowBytes);
            });
          }
          mma(d[0], a, b, deep ? static_cast<size_t>(k16 % 2 * 2) : 0);
          if (!deep) mma(d[1], a, b, 2);
        }
        for (int64_t r = 0; r < 16; ++r) {
          for (int64_t c = 0; c < (deep ? 8 : 16); ++c) {
            float expected = 0;
            for (int64_t k = 0; k < kTileK; ++k)
              expected += value(tile * 16 + r, k) * value(pair * 16 + c + 100, k);
            EXPECT_EQ(d[c / 8][r][c % 8], expected) << (deep ? "8" : "16") << " rows of x, tile "
                                                    << tile << ", [" << r << ", " << c << "]";
          }
        }
      }
    }
  }
}

// ---- on the device ----

class CudaLinear : public CudaTest {
 protected:
  // y of `rows` rows as linear gives it, poisoned first.
  TensorView run(const std::vector<float>& x, int64_t rows, const LinearWeight& weight) {
    const LinearGroup group{{weight}, 1};
    const LinearOutput output = linear_output(ex, group, rows);
    const TensorView y = poisoned(output.dtype, {output.parts, rows, weight.n});
    linear(ex, upload_activation(first_rows(x, rows, weight.k), rows, weight.k), group, y);
    return y;
  }
  // And the sum over its parts, in order, as the next op adds them.
  std::vector<float> summed(const TensorView& y) {
    const std::vector<float> parts = download(y);
    std::vector<float> sums(parts.begin(), parts.begin() + y.dim(1) * y.dim(2));
    for (size_t i = sums.size(); i < parts.size(); ++i) sums[i % sums.size()] += parts[i];
    return sums;
  }
  // silu(gate) * up as 16-bit values.
  std::vector<float> run_silu_mul(const std::vector<float>& x, int64_t rows,
                                  const LinearWeight& gate_up) {
    const TensorView y = poisoned_activation(rows, gate_up.n / 2);
    linear_silu_mul(ex, upload_activation(first_rows(x, rows, gate_up.k), rows, gate_up.k),
                    {{gate_up}, 1}, y);
    return download_activation(y, rows, gate_up.n / 2);
  }

  void expect_linear(int64_t n, int64_t k, const std::vector<int>& tile_rows,
                     const std::vector<int>& splits, const std::vector<int64_t>& rows,
                     bool with_bias);
  void expect_silu_mul(int64_t dim, int64_t k, int tile_rows, bool with_bias);
};

void CudaLinear::expect_linear(int64_t n, int64_t k, const std::vector<int>& tile_rows,
                               const std::vector<int>& splits, const std::vector<int64_t>& rows,
                               bool with_bias) {
  const int64_t max_rows = *std::max_element(rows.begin(), rows.end());
  const auto x = rounded_to(ex.activation, reference::random_floats(max_rows * k, 1));
  const auto w = rounded_to(ex.activation, reference::random_floats(n * k, 2, 0.3f));
  const std::vector<float> bias = with_bias ? reference::random_floats(n, 3) : std::vector<float>{};
  const Products expected = Products::of(x, w, bias, max_rows, n, k);
  for (int tile : tile_rows) {
    LinearWeight weight = upload_weight(w, n, k, tile, 1, /*interleaved=*/false, bias);
    for (int s : splits) {
      if (s > num_k_tiles(k)) continue;
      weight.splits = s;
      for (int64_t count : rows) {
        const std::vector<float> y = summed(run(x, count, weight));
        Worst worst;
        for (int64_t r = 0; r < count; ++r) {
          for (int64_t i = 0; i < n; ++i)
            worst.add(r, i, y[static_cast<size_t>(r * n + i)], expected.at(r, i),
                      expected.tolerance(r, i));
        }
        worst.expect_within(name_of(ex.activation, n, k, count, weight));
      }
    }
    free_tensors();
  }
}

TEST_F(CudaLinear, equals_the_reference_for_every_row_count_split_and_odd_shape) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    expect_linear(61, 32, {32, 64, 256}, {1}, row_counts(), /*with_bias=*/true);
    expect_linear(96, 48, {32, 96}, {1}, row_counts(), /*with_bias=*/false);
    expect_linear(61, 64, {32}, {1}, row_counts(), /*with_bias=*/false);
    expect_linear(192, 576, {32, 96, 160}, {1, 2, 4, 8}, row_counts(), /*with_bias=*/true);
  }
}

TEST_F(CudaLinear, equals_the_reference_where_stages_go_round_the_ring) {
  expect_linear(61, 1536, {32}, {1, 2, 4, 8}, row_counts(), /*with_bias=*/true);
  expect_linear(192, 4096, {64, 192, 256}, {1, 4, 8}, {1, 8, 17, 33, 64}, /*with_bias=*/true);
  expect_linear(96, 14336, {32, 96}, {1, 4}, {3, 16, 64}, /*with_bias=*/false);
}

TEST_F(CudaLinear, equals_the_reference_where_a_cta_takes_several_tiles) {
  // 32 x 8 and 192 x 8 items are more than an H100 has multiprocessors.
  expect_linear(6144, 1088, {32, 192}, {1, 8}, {1, 16, 64}, /*with_bias=*/true);
}

TEST_F(CudaLinear, equals_the_reference_as_planned_for_this_device) {
  const LinearPlan plan = linear_plan(6144, 4096, device().num_sms);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    expect_linear(6144, 4096, {plan.tile_rows}, {plan.splits}, {1, 8, 64}, /*with_bias=*/false);
  }
}

void CudaLinear::expect_silu_mul(int64_t dim, int64_t k, int tile_rows, bool with_bias) {
  const int64_t max_rows = 64;
  const auto x = rounded_to(ex.activation, reference::random_floats(max_rows * k, 4));
  const auto w =
      rounded_to(ex.activation,
                 reference::random_floats(2 * dim * k, 5, 2.0f / std::sqrt(static_cast<float>(k))));
  std::vector<float> bias, packed_bias;
  if (with_bias) {
    bias = reference::random_floats(2 * dim, 6);
    packed_bias.resize(static_cast<size_t>((dim + 7) / 8 * 16));
    for (int64_t i = 0; i < 2 * dim; ++i)
      packed_bias[static_cast<size_t>(interleaved_row(i % dim, i < dim ? 0 : 1))] =
          bias[static_cast<size_t>(i)];
  }
  const Products sums = Products::of(x, w, bias, max_rows, 2 * dim, k);
  const LinearWeight gate_up =
      upload_weight(w, 2 * dim, k, tile_rows, 1, /*interleaved=*/true, packed_bias);
  const double rounding = ex.activation == DType::kBF16 ? 0x1p-8 : 0x1p-10;
  for (int64_t rows : row_counts()) {
    const std::vector<float> y = run_silu_mul(x, rows, gate_up);
    Worst worst;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < dim; ++i) {
        const double expected = reference::silu_mul(sums.at(r, i), sums.at(r, dim + i));
        worst.add(r, i, y[static_cast<size_t>(r * dim + i)], expected,
                  rounding * std::fabs(expected) + 1e-4);
      }
    }
    worst.expect_within(name_of(ex.activation, 2 * dim, k, rows, gate_up));
  }
  free_tensors();
}

TEST_F(CudaLinear, silu_mul_equals_the_reference_and_pads_with_zeros) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    expect_silu_mul(61, 48, 32, /*with_bias=*/true);
    expect_silu_mul(32, 64, 32, /*with_bias=*/false);   // half a k tile of y has no weights
    expect_silu_mul(8, 32, 32, /*with_bias=*/true);     // most of it
    expect_silu_mul(72, 576, 96, /*with_bias=*/false);  // padded rows reach past dim
    expect_silu_mul(1536, 576, 224, /*with_bias=*/true);
  }
  expect_silu_mul(4416, 320, 32, /*with_bias=*/false);  // several tiles a CTA
}

// ---- bit for bit ----

TEST_F(CudaLinear, a_row_is_bitwise_the_same_alone_and_among_others) {
  const int64_t n = 160, k = 1600, rows = 64;
  const auto x = reference::random_floats(rows * k, 7);
  const LinearWeight weight = upload_weight(reference::random_floats(n * k, 8, 0.3f), n, k,
                                            /*tile_rows=*/96, /*splits=*/4);
  LinearWeight gate_up = upload_weight(reference::random_floats(n * k, 9, 0.05f), n, k,
                                       /*tile_rows=*/64, 1, /*interleaved=*/true);
  std::vector<std::vector<float>> alone, alone_silu;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
    alone.push_back(summed(run(row, 1, weight)));
    alone_silu.push_back(run_silu_mul(row, 1, gate_up));
  }
  for (int64_t count : row_counts()) {
    const std::vector<float> together = summed(run(x, count, weight));
    const std::vector<float> together_silu = run_silu_mul(x, count, gate_up);
    for (int64_t r = 0; r < count; ++r) {
      const auto at = static_cast<size_t>(r);
      EXPECT_TRUE(same_bits(&together[at * static_cast<size_t>(n)], alone[at].data(), n))
          << "row " << r << " of " << count;
      EXPECT_TRUE(
          same_bits(&together_silu[at * static_cast<size_t>(n / 2)], alone_silu[at].data(), n / 2))
          << "silu_mul, row " << r << " of " << count;
    }
    // The same rows in other places.
    std::vector<float> turned(x.begin() + k, x.begin() + count * k);
    turned.insert(turned.end(), x.begin(), x.begin() + k);
    const std::vector<float> y = summed(run(turned, count, weight));
    for (int64_t r = 0; r < count; ++r) {
      const int64_t from = (r + 1) % count;
      EXPECT_TRUE(
          same_bits(&y[static_cast<size_t>(r * n)], &together[static_cast<size_t>(from * n)], n))
          << "row " << from << " of " << count << " in place " << r;
    }
  }
}

TEST_F(CudaLinear, batch_invariant_rows_are_the_same_in_steps_of_any_size) {
  ex.batch_invariant = true;
  const int64_t n = 96, k = 320, rows = 150;
  const auto x = reference::random_floats(rows * k, 10);
  const LinearWeight weight = upload_weight(reference::random_floats(n * k, 11, 0.3f), n, k,
                                            /*tile_rows=*/32, /*splits=*/2);
  const LinearWeight gate_up = upload_weight(reference::random_floats(n * k, 12, 0.1f), n, k,
                                             /*tile_rows=*/32, 1, /*interleaved=*/true);
  EXPECT_EQ(linear_output(ex, {{weight}, 1}, rows).parts, 2);
  const std::vector<float> y = summed(run(x, rows, weight));
  const std::vector<float> y_silu = run_silu_mul(x, rows, gate_up);
  for (int64_t r : {0, 1, 63, 64, 65, 127, 128, 149}) {
    const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
    EXPECT_TRUE(same_bits(&y[static_cast<size_t>(r * n)], summed(run(row, 1, weight)).data(), n))
        << "row " << r;
    EXPECT_TRUE(same_bits(&y_silu[static_cast<size_t>(r * n / 2)],
                          run_silu_mul(row, 1, gate_up).data(), n / 2))
        << "silu_mul, row " << r;
  }
}

TEST_F(CudaLinear, a_chain_in_a_graph_equals_its_steps_one_by_one) {
  const int64_t dim = 1536, ffn = 4096;
  const LinearWeight gate_up =
      upload_weight(reference::random_floats(2 * ffn * dim, 13, 0.05f), 2 * ffn, dim,
                    /*tile_rows=*/224, 1, /*interleaved=*/true);
  const LinearWeight down = upload_weight(reference::random_floats(dim * ffn, 14, 0.05f), dim, ffn,
                                          /*tile_rows=*/64, /*splits=*/4);
  for (int64_t rows : {1, 8, 64}) {
    const TensorView x = upload_activation(reference::random_floats(rows * dim, 15), rows, dim);
    const auto step = [&](const TensorView& hidden, const TensorView& y, bool wait_between) {
      linear_silu_mul(ex, x, {{gate_up}, 1}, hidden);
      if (wait_between) wait();
      linear(ex, hidden, {{down}, 1}, y);
    };
    const TensorView expected = poisoned(DType::kF32, {4, rows, dim});
    step(poisoned_activation(rows, ffn), expected, /*wait_between=*/true);
    const std::vector<float> serial = download(expected);
    // Outputs of one step are written again by the next: every hand-over is tried.
    const TensorView hidden = poisoned_activation(rows, ffn);
    const TensorView y = poisoned(DType::kF32, {4, rows, dim});
    replay(
        [&] {
          for (int i = 0; i < 20; ++i) step(hidden, y, /*wait_between=*/false);
        },
        /*times=*/3);
    const std::vector<float> chained = download(y);
    EXPECT_TRUE(same_bits(chained.data(), serial.data(), static_cast<int64_t>(serial.size())))
        << rows << " rows";
  }
}

TEST_F(CudaLinear, more_than_64_rows_equal_the_reference_too) {
  const int64_t n = 192, k = 576, rows = 130;
  const auto x = rounded_to(ex.activation, reference::random_floats(rows * k, 16));
  const auto w = rounded_to(ex.activation, reference::random_floats(n * k, 17, 0.3f));
  const Products expected = Products::of(x, w, {}, rows, n, k);
  const LinearWeight weight = upload_weight(w, n, k, /*tile_rows=*/96, /*splits=*/2);
  for (int64_t count : {65, 128, 130}) {
    const std::vector<float> y = summed(run(x, count, weight));
    Worst worst;
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < n; ++i)
        worst.add(r, i, y[static_cast<size_t>(r * n + i)], expected.at(r, i),
                  expected.tolerance(r, i) + 0x1p-8 * std::fabs(expected.at(r, i)));
    }
    worst.expect_within(name_of(ex.activation, n, k, count, weight));
  }
}

TEST_F(CudaLinear, output_bytes_hold_every_smaller_step) {
  LinearWeight weight;
  weight.n = 4096;
  weight.k = 14336;
  weight.splits = 4;
  const LinearGroup group{{weight}, 1};
  for (int64_t max_rows : {1, 64, 65, 700}) {
    const int64_t bytes = linear_output_bytes(ex, group, max_rows);
    int64_t most = 0;
    for (int64_t rows = 1; rows <= max_rows; ++rows) {
      const LinearOutput output = linear_output(ex, group, rows);
      most = std::max(
          most, output.parts * rows * weight.n * static_cast<int64_t>(dtype_size(output.dtype)));
    }
    EXPECT_EQ(bytes, most) << max_rows << " rows";
  }
}

}  // namespace
}  // namespace donar::ops
