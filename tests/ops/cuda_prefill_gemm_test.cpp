// Products of more than 64 rows: both kernels against naive double sums on odd shapes, with NaN
// wherever they must not look. Their arithmetic on the host is in cuda_prefill_maps_test.cpp.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ops/cuda/prefill_gemm.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops::cuda {
namespace {

struct Case {
  int64_t n, k, rows;
  int tile_rows = 128;
  bool bias = false;
  PrefillOutput output = PrefillOutput::kValues;
  int splits = 1;
  int token_tile = 256;
  DType dtype = DType::kBF16;
};

std::string kernel_name(PrefillKernel kernel) {
  switch (kernel) {
    case PrefillKernel::kAuto:
      return "auto";
    case PrefillKernel::kMma:
      return "mma";
    case PrefillKernel::kWgmma:
      return "wgmma";
    case PrefillKernel::kWgmmaPair:
      return "wgmma pair";
  }
  return "?";
}

std::string describe(const Case& c, PrefillKernel kernel) {
  const char* outputs[] = {"values", "partials", "silu_mul"};
  return kernel_name(kernel) + " " + outputs[static_cast<int>(c.output)] + " " +
         std::string(dtype_name(c.dtype)) + " n " + std::to_string(c.n) + " k " +
         std::to_string(c.k) + " rows " + std::to_string(c.rows) + " tile rows " +
         std::to_string(c.tile_rows) + " splits " + std::to_string(c.splits) + " token tile " +
         std::to_string(c.token_tile) + (c.bias ? " bias" : "");
}

class CudaPrefillGemm : public CudaTest {
 protected:
  // What a case multiplies, rounded as the device sees it, and where it lies there.
  struct Operands {
    Case c;
    std::vector<float> x, w, bias;  // w, bias: gate above up for kSiluMul
    PrefillGemmParams params;
    TensorView y;
  };

  std::vector<PrefillKernel> kernels() {
    std::vector<PrefillKernel> all;
    for (const PrefillKernel kernel :
         {PrefillKernel::kMma, PrefillKernel::kWgmma, PrefillKernel::kWgmmaPair}) {
      if (prefill_kernel_runs(kernel, *ex.cuda)) all.push_back(kernel);
    }
    return all;
  }

  TensorView output(const Case& c) {
    if (c.output == PrefillOutput::kSiluMul) return poisoned_activation(c.rows, c.n / 2);
    if (c.output == PrefillOutput::kPartials) return poisoned(DType::kF32, {c.splits, c.rows, c.n});
    return poisoned(c.dtype, {c.rows, c.n});
  }

  Operands operands(const Case& c, uint32_t seed = 1) {
    ex.activation = c.dtype;
    const bool gated = c.output == PrefillOutput::kSiluMul;
    Operands o{c, {}, {}, {}, {}, {}};
    o.x = rounded_to(c.dtype, reference::random_floats(c.rows * c.k, seed));
    o.w = rounded_to(c.dtype, reference::random_floats(c.n * c.k, seed + 1,
                                                       1.0f / std::sqrt(static_cast<float>(c.k))));
    std::vector<uint16_t> packed =
        pack_tiled_weight(c.dtype, o.w, c.n, c.k, c.tile_rows, /*interleaved=*/gated);
    poison_padding(c, packed);
    o.params.weights = upload(c.dtype, packed, {static_cast<int64_t>(packed.size())}).data;
    o.params.x = upload_activation(o.x, c.rows, c.k).data;
    if (c.bias) {
      o.bias = reference::random_floats(c.n, seed + 2);
      std::vector<float> in_order = o.bias;
      if (gated) {
        const int64_t half = c.n / 2;
        in_order.assign(static_cast<size_t>((half + 7) / 8 * 16), NAN);
        for (int64_t r = 0; r < c.n; ++r)
          in_order[static_cast<size_t>(interleaved_row(r % half, r < half ? 0 : 1))] =
              o.bias[static_cast<size_t>(r)];
      }
      o.params.bias = upload(in_order, {static_cast<int64_t>(in_order.size())}).as<float>();
    }
    o.y = output(c);
    o.params.y = o.y.data;
    o.params.n = c.n;
    o.params.k = c.k;
    o.params.rows = c.rows;
    o.params.tile_rows = c.tile_rows;
    o.params.bf16 = c.dtype == DType::kBF16;
    o.params.output = c.output;
    o.params.plan = {c.token_tile, c.splits};
    return o;
  }

  // Rows of the last tile that are no rows of the matrix: whatever is there must not be seen.
  void poison_padding(const Case& c, std::vector<uint16_t>& packed) {
    const bool gated = c.output == PrefillOutput::kSiluMul;
    const int64_t half = c.n / 2;
    const int64_t end = gated ? (half + 7) / 8 * 16 : c.n;
    const int64_t padded = (end + c.tile_rows - 1) / c.tile_rows * c.tile_rows;
    for (int64_t r = 0; r < padded; ++r) {
      const bool exists = gated ? r / 16 * 8 + r % 8 < half : r < c.n;
      if (exists) continue;
      for (int64_t i = 0; i < num_k_tiles(c.k) * kTileK; ++i)
        packed[static_cast<size_t>(tiled_weight_offset(r, i, c.k, c.tile_rows))] = 0xffff;
    }
  }

  reference::Sum dot(const Operands& o, int64_t row, int64_t n) {
    reference::Sum sum;
    for (int64_t i = 0; i < o.c.k; ++i) {
      const double product = double{o.x[static_cast<size_t>(row * o.c.k + i)]} *
                             o.w[static_cast<size_t>(n * o.c.k + i)];
      sum.value += product;
      sum.magnitude += std::fabs(product);
    }
    if (!o.bias.empty()) {
      sum.value += o.bias[static_cast<size_t>(n)];
      sum.magnitude += std::fabs(o.bias[static_cast<size_t>(n)]);
    }
    return sum;
  }

  // [rows, columns] of the result as floats; parts added up.
  std::vector<float> result(const Operands& o) {
    const Case& c = o.c;
    if (c.output == PrefillOutput::kSiluMul) return download_activation(o.y, c.rows, c.n / 2);
    std::vector<float> values = download(o.y);
    if (c.output == PrefillOutput::kValues) return values;
    const auto count = static_cast<size_t>(c.rows * c.n);
    for (size_t i = count; i < values.size(); ++i) values[i % count] += values[i];
    values.resize(count);
    return values;
  }

  // All of a small result, a few thousand values of a large one: the last row and column too.
  void compare(const Operands& o, const std::vector<float>& values, const std::string& what) {
    const Case& c = o.c;
    const bool gated = c.output == PrefillOutput::kSiluMul;
    const int64_t columns = gated ? c.n / 2 : c.n;
    const double epsilon = c.dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
    const double sum_epsilon = 4e-6;
    // NaN anywhere is a value that was not written, or garbage that was read.
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_FALSE(std::isnan(values[i]))
          << what << ": NaN at [" << static_cast<int64_t>(i) / columns << ", "
          << static_cast<int64_t>(i) % columns << "]";
    }
    const int64_t work = c.rows * columns * c.k;
    const int64_t row_step = work > 50'000'000 ? std::max<int64_t>(c.rows / 40, 1) : 1;
    const int64_t column_step = work > 50'000'000 ? std::max<int64_t>(columns / 90, 1) : 1;
    Worst worst;
    for (int64_t i = 0; i < c.rows + row_step; i += row_step) {
      const int64_t row = std::min(i, c.rows - 1);
      for (int64_t j = 0; j < columns + column_step; j += column_step) {
        const int64_t column = std::min(j, columns - 1);
        const double actual = values[static_cast<size_t>(row * columns + column)];
        const reference::Sum sum = dot(o, row, column);
        if (!gated) {
          const double rounding =
              c.output == PrefillOutput::kValues ? epsilon * std::fabs(sum.value) : 0.0;
          worst.add(row, column, actual, sum.value, rounding + sum_epsilon * sum.magnitude);
          continue;
        }
        const reference::Sum up = dot(o, row, columns + column);
        const double silu = sum.value / (1 + std::exp(-sum.value));
        const double expected = silu * up.value;
        const double error = sum_epsilon * (1.1 * sum.magnitude * std::fabs(up.value) +
                                            std::fabs(silu) * up.magnitude);
        worst.add(row, column, actual, expected,
                  (epsilon + 1e-5) * std::fabs(expected) + error + 1e-7);
      }
    }
    worst.expect_within(what);
  }

  // Leaves NaN in the shared memory of every SM, where the next kernel's ring will be.
  void poison_shared_memory(DType dtype) {
    PrefillGemmParams params;
    params.n = 4096, params.k = 512, params.rows = 2048, params.tile_rows = 128;
    params.weights = poisoned(dtype, {tiled_weight_elements(params.n, params.k, 128)}).data;
    params.x = poisoned(dtype, {tiled_elements(params.rows, params.k)}).data;
    params.y = poisoned(dtype, {params.rows, params.n}).data;
    params.bf16 = dtype == DType::kBF16;
    prefill_gemm(params, *ex.cuda);
  }

  void check_case(const Case& c) {
    Operands o = operands(c);
    for (const PrefillKernel kernel : kernels()) {
      poison_shared_memory(c.dtype);
      o.y = output(c);
      o.params.y = o.y.data;
      o.params.kernel = kernel;
      prefill_gemm(o.params, *ex.cuda);
      compare(o, result(o), describe(c, kernel));
      if (HasFatalFailure()) return;
    }
    free_tensors();
  }

  static constexpr int64_t kRows[] = {65, 100, 128, 129, 255, 256, 257, 300};
};

TEST_F(CudaPrefillGemm, multiplies_any_number_of_rows) {
  for (const int64_t rows : kRows) {
    for (const int token_tile : {128, 256})
      check_case({.n = 96, .k = 576, .rows = rows, .tile_rows = 96, .token_tile = token_tile});
  }
}

TEST_F(CudaPrefillGemm, multiplies_odd_shapes) {
  for (const int64_t n : {61, 96, 130, 384}) {
    for (const int64_t k : {32, 48, 64, 576}) {
      for (const int tile_rows : {32, 64, 192})
        check_case({.n = n, .k = k, .rows = 129, .tile_rows = tile_rows, .bias = tile_rows == 64});
    }
  }
}

TEST_F(CudaPrefillGemm, multiplies_f16) {
  for (const int64_t rows : {100, 300}) {
    check_case({.n = 200, .k = 320, .rows = rows, .bias = true, .dtype = DType::kF16});
    check_case({.n = 200, .k = 320, .rows = rows, .token_tile = 128, .dtype = DType::kF16});
    check_case({.n = 304,
                .k = 320,
                .rows = rows,
                .output = PrefillOutput::kSiluMul,
                .dtype = DType::kF16});
  }
}

TEST_F(CudaPrefillGemm, gives_parts_that_add_up_to_the_product) {
  for (const int splits : {1, 2, 3, 8}) {
    for (const int token_tile : {128, 256}) {
      for (const int64_t n : {61, 320})
        check_case({.n = n,
                    .k = 576,
                    .rows = 150,
                    .tile_rows = 32,
                    .bias = true,
                    .output = PrefillOutput::kPartials,
                    .splits = splits,
                    .token_tile = token_tile});
    }
  }
}

TEST_F(CudaPrefillGemm, multiplies_gate_and_up_into_an_activation) {
  for (const int64_t dim : {8, 61, 64, 72, 200}) {
    for (const int64_t rows : {65, 129, 300}) {
      for (const int tile_rows : {32, 224})
        check_case({.n = 2 * dim,
                    .k = 192,
                    .rows = rows,
                    .tile_rows = tile_rows,
                    .bias = tile_rows == 32,
                    .output = PrefillOutput::kSiluMul,
                    .token_tile = rows == 129 ? 128 : 256});
    }
  }
}

TEST_F(CudaPrefillGemm, multiplies_the_shapes_of_models) {
  check_case({.n = 6144, .k = 4096, .rows = 2048, .tile_rows = 192});
  check_case({.n = 4096,
              .k = 4096,
              .rows = 128,
              .tile_rows = 128,
              .output = PrefillOutput::kPartials,
              .splits = 4,
              .token_tile = 128});
  check_case(
      {.n = 7168, .k = 1024, .rows = 1000, .tile_rows = 224, .output = PrefillOutput::kSiluMul});
}

// More units than CTAs, and an odd number of row tiles: the ring runs on from unit to unit, and the
// last pair has one half only.
TEST_F(CudaPrefillGemm, keeps_the_ring_in_step_over_many_units) {
  check_case({.n = 128 * 13, .k = 64 * 5, .rows = 256 * 23 - 7, .tile_rows = 96});
  check_case({.n = 128 * 13, .k = 64 * 7, .rows = 128 * 31, .tile_rows = 160, .token_tile = 128});
}

TEST_F(CudaPrefillGemm, a_row_does_not_depend_on_the_other_rows) {
  const Case c{.n = 400, .k = 640, .rows = 300};
  for (const PrefillKernel kernel : kernels()) {
    Operands o = operands(c);
    o.params.kernel = kernel;
    prefill_gemm(o.params, *ex.cuda);
    const std::vector<uint16_t> whole = download_raw<uint16_t>(o.y);
    // The same product where all but every seventh row is NaN.
    std::vector<float> x = o.x;
    for (int64_t r = 0; r < c.rows; ++r) {
      if (r % 7 != 0) std::fill_n(x.begin() + r * c.k, c.k, NAN);
    }
    o.params.x = upload_activation(x, c.rows, c.k).data;
    const TensorView y = output(c);
    o.params.y = y.data;
    prefill_gemm(o.params, *ex.cuda);
    const std::vector<uint16_t> alone = download_raw<uint16_t>(y);
    for (int64_t r = 0; r < c.rows; r += 7) {
      EXPECT_TRUE(std::equal(whole.begin() + r * c.n, whole.begin() + (r + 1) * c.n,
                             alone.begin() + r * c.n))
          << kernel_name(kernel) << ", row " << r;
    }
    free_tensors();
  }
}

// As in a step: gate-up feeds down, launches overlap, and every replay gives the same bits.
TEST_F(CudaPrefillGemm, overlapping_launches_give_the_bits_of_serial_ones) {
  const Case up{
      .n = 2 * 1536, .k = 1024, .rows = 600, .tile_rows = 224, .output = PrefillOutput::kSiluMul};
  const Case down{.n = 1024, .k = 1536, .rows = 600};
  for (const PrefillKernel kernel : kernels()) {
    Operands first = operands(up), second = operands(down, 7);
    second.params.x = first.params.y;
    first.params.kernel = second.params.kernel = kernel;
    prefill_gemm(first.params, *ex.cuda);
    wait();
    prefill_gemm(second.params, *ex.cuda);
    const std::vector<uint16_t> serial = download_raw<uint16_t>(second.y);
    const std::vector<uint16_t> hidden = download_raw<uint16_t>(first.y);
    // The third product overwrites what the second reads: it has to wait for it.
    Operands third = operands(up, 13);
    third.params.y = first.params.y;
    third.params.kernel = kernel;
    for (int round = 0; round < 3; ++round) {
      const TensorView again = output(down);
      Operands last = second;
      last.params.y = again.data;
      replay(
          [&] {
            prefill_gemm(third.params, *ex.cuda);
            prefill_gemm(first.params, *ex.cuda);
            prefill_gemm(last.params, *ex.cuda);
            prefill_gemm(third.params, *ex.cuda);
            prefill_gemm(first.params, *ex.cuda);
          },
          4);
      EXPECT_EQ(download_raw<uint16_t>(again), serial) << kernel_name(kernel);
      EXPECT_EQ(download_raw<uint16_t>(first.y), hidden) << kernel_name(kernel);
    }
    free_tensors();
  }
}

TEST_F(CudaPrefillGemm, auto_takes_the_fastest_kernel_that_runs) {
  EXPECT_TRUE(prefill_kernel_runs(PrefillKernel::kMma, *ex.cuda));
  const bool hopper = device().arch == 90;
  EXPECT_EQ(prefill_kernel_runs(PrefillKernel::kWgmma, *ex.cuda), hopper);
  EXPECT_EQ(prefill_kernel_runs(PrefillKernel::kWgmmaPair, *ex.cuda), hopper);
  const Case c{.n = 160, .k = 128, .rows = 90};
  Operands o = operands(c);
  prefill_gemm(o.params, *ex.cuda);
  compare(o, result(o), describe(c, PrefillKernel::kAuto));
}

}  // namespace
}  // namespace donar::ops::cuda
