#include "ops/cuda/linear.h"

#include <algorithm>

#include "ops/cuda/decode_gemm.h"
#include "ops/cuda/prefill_gemm.h"
#include "ops/linear_plan.h"

namespace donar::ops::cuda {
namespace {

bool uses_decode(const Exec& ex, int64_t rows) { return rows <= kDecodeRows || ex.batch_invariant; }

void check_weight(const Exec& ex, const quant::LinearWeight& weight) {
  const quant::Format format =
      ex.activation == DType::kF16 ? quant::Format::kF16 : quant::Format::kBF16;
  DONAR_CHECK(weight.format == format, "{} weights, {} activations",
              quant::info(weight.format).name, dtype_name(ex.activation));
  DONAR_CHECK(weight.tile_rows > 0 && weight.tile_rows % kTileRowsStep == 0 &&
                  weight.tile_rows <= kMaxTileRows && weight.splits >= 1 &&
                  weight.splits <= num_k_tiles(weight.k),
              "[{}, {}] in tiles of {} rows, {} splits", weight.n, weight.k, weight.tile_rows,
              weight.splits);
}

// Row `row` of a k-tiled matrix in its first k tile.
void* tiled_row(const TensorView& view, int64_t row) {
  return static_cast<char*>(view.data) + row * kTileK * 2;
}

DecodeGemmParams decode_params(const Exec& ex, const TensorView& x,
                               const quant::LinearWeight& weight, int64_t first_row) {
  DecodeGemmParams params;
  params.weights = weight.data;
  params.x = tiled_row(x, first_row);
  params.bias = weight.bias;
  params.n = weight.n;
  params.k = weight.k;
  params.rows = std::min(x.dim(1) - first_row, kDecodeRows);
  params.x_rows = x.dim(1);
  params.tile_rows = weight.tile_rows;
  params.bf16 = ex.activation == DType::kBF16;
  return params;
}

PrefillGemmParams prefill_params(const Exec& ex, const TensorView& x,
                                 const quant::LinearWeight& weight, const TensorView& y,
                                 bool silu_mul) {
  PrefillGemmParams params;
  params.weights = weight.data;
  params.x = x.data;
  params.bias = weight.bias;
  params.y = y.data;
  params.n = weight.n;
  params.k = weight.k;
  params.rows = x.dim(1);
  params.tile_rows = weight.tile_rows;
  params.bf16 = ex.activation == DType::kBF16;
  const bool whole_floats = y.dtype == DType::kF32 && y.dim(0) == 1;
  params.plan = prefill_plan(weight.n, weight.k, params.rows, ex.cuda->num_sms,
                             /*one_part=*/silu_mul || whole_floats);
  if (silu_mul) {
    params.output = PrefillOutput::kSiluMul;
  } else if (y.dtype == DType::kF32) {
    params.output = PrefillOutput::kPartials;
  }
  return params;
}

}  // namespace

LinearOutput linear_output(const Exec& ex, const quant::LinearWeight& weight, int64_t rows) {
  if (uses_decode(ex, rows)) return {DType::kF32, weight.splits};
  const int splits = prefill_plan(weight.n, weight.k, rows, ex.cuda->num_sms).splits;
  return {splits > 1 ? DType::kF32 : ex.activation, splits};
}

void linear(Exec& ex, TensorView x, const quant::LinearWeight& weight, TensorView y) {
  check_weight(ex, weight);
  const int64_t rows = x.dim(1);
  if (!uses_decode(ex, rows)) {
    DONAR_CHECK(y.stride[1] == weight.n && y.stride[0] == rows * weight.n, "y is not contiguous");
    return prefill_gemm(prefill_params(ex, x, weight, y, /*silu_mul=*/false), *ex.cuda);
  }
  DONAR_CHECK(y.dim(0) == weight.splits, "{} parts, not {}", y.dim(0), weight.splits);
  for (int64_t row = 0; row < rows; row += kDecodeRows) {
    DecodeGemmParams params = decode_params(ex, x, weight, row);
    params.splits = weight.splits;
    params.y = y.as<float>() + row * y.stride[1];
    params.part_stride = y.stride[0];
    params.row_stride = y.stride[1];
    decode_gemm(params, *ex.cuda);
  }
}

void linear_silu_mul(Exec& ex, TensorView x, const quant::LinearWeight& gate_up, TensorView y) {
  check_weight(ex, gate_up);
  DONAR_CHECK(gate_up.interleaved, "gate and up do not alternate");
  const int64_t rows = x.dim(1);
  if (!uses_decode(ex, rows))
    return prefill_gemm(prefill_params(ex, x, gate_up, y, /*silu_mul=*/true), *ex.cuda);
  for (int64_t row = 0; row < rows; row += kDecodeRows) {
    DecodeGemmParams params = decode_params(ex, x, gate_up, row);
    params.output = DecodeOutput::kSiluMul;
    params.y = tiled_row(y, row);
    params.y_rows = rows;
    decode_gemm(params, *ex.cuda);
  }
}

}  // namespace donar::ops::cuda
