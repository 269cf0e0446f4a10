// Products of more than 64 rows on the shapes of an 8B Llama: checked against the mma.sync kernel,
// then timed with cold weights. Without a filter: the plan that serving takes, by each kernel.
// Filter "sweep": all plans, which is what prefill_plan's numbers are made from. The ceiling is
// that of the same minute; a library's product of 8,192 cubed bf16 values reached 798 TFLOP/s on an
// H100.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "bench/ops/cuda_bench.h"
#include "ops/activation.h"
#include "ops/cuda/prefill_gemm.h"
#include "ops/linear_plan.h"

namespace donar::bench {
namespace {

using ops::cuda::PrefillGemmParams;
using ops::cuda::PrefillKernel;
using ops::cuda::PrefillOutput;
using ops::cuda::PrefillPlan;

struct Shape {
  const char* name;
  int64_t n, k;
  bool gated;
};
constexpr Shape kShapes[] = {{"qkv", 6144, 4096, false},
                             {"o", 4096, 4096, false},
                             {"gate-up", 28672, 4096, true},
                             {"down", 4096, 14336, false}};
constexpr int64_t kRows[] = {128, 256, 512, 2048, 4096};

struct Variant {
  const char* name;
  PrefillKernel kernel;
};
constexpr Variant kVariants[] = {{"pair", PrefillKernel::kWgmmaPair},
                                 {"wgmma", PrefillKernel::kWgmma},
                                 {"mma", PrefillKernel::kMma}};

std::vector<float> download(const TensorView& view, CudaStreamHandle stream) {
  std::vector<std::byte> bytes(static_cast<size_t>(view.numel()) * dtype_size(view.dtype));
  cuda_copy(bytes.data(), view.data, bytes.size(), stream);
  if (cudaStreamSynchronize(stream) != cudaSuccess) throw CudaError("the product failed");
  std::vector<float> values(static_cast<size_t>(view.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = 0;
    if (view.dtype == DType::kF32) {
      std::memcpy(&values[i], bytes.data() + i * 4, 4);
      continue;
    }
    std::memcpy(&bits, bytes.data() + i * 2, 2);
    values[i] = view.dtype == DType::kF16 ? f16_to_f32(bits)
                                          : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  return values;
}

// Both add in f32, in another order, and round to 16 bits once.
bool close(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  double difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return false;
    largest = std::max(largest, std::fabs(double{b[i]}));
    difference = std::max(difference, std::fabs(double{a[i]} - b[i]));
  }
  return largest > 0 && difference <= 0x1p-7 * largest;
}

// One shape at one number of rows: its data, and the runs over it.
class ShapeBench {
 public:
  ShapeBench(CudaBench& bench, const Shape& shape, int64_t rows)
      : bench_(bench), shape_(shape), rows_(rows) {}

  void run(const Variant& variant, const char* prefix, PrefillPlan plan) {
    const std::string name =
        fmt::format("{} {} {}x{} rows {} {} {}/{}", prefix, shape_.name, shape_.n, shape_.k, rows_,
                    variant.name, plan.token_tile, plan.splits);
    const Exec& ex = bench_.exec();
    if (!bench_.wanted(name) || !ops::cuda::prefill_kernel_runs(variant.kernel, *ex.cuda)) return;
    if (weights_.data == nullptr) allocate();
    PrefillGemmParams params;
    params.x = x_.data;
    params.n = shape_.n, params.k = shape_.k, params.rows = rows_;
    params.tile_rows = tile_rows_;
    params.bf16 = ex.activation == DType::kBF16;
    params.plan = plan;
    params.kernel = variant.kernel;
    const PrefillOutput whole = shape_.gated ? PrefillOutput::kSiluMul : PrefillOutput::kValues;
    // Right on the first rows of a launch with whole sums, against the other kernel.
    params.output = whole;
    params.plan.splits = 1;
    params.weights = weights_.data;
    params.y = y_.data;
    ops::cuda::prefill_gemm(params, *ex.cuda);
    const std::vector<float> actual = download(whole_y(), ex.cuda->stream);
    params.kernel = PrefillKernel::kMma;
    ops::cuda::prefill_gemm(params, *ex.cuda);
    bench_.expect(close(actual, download(whole_y(), ex.cuda->stream)), name);

    params.kernel = variant.kernel;
    params.plan = plan;
    params.output = plan.splits > 1 ? PrefillOutput::kPartials : whole;
    const CudaBench::Time time = bench_.measure(
        [&](int64_t i) {
          params.weights = static_cast<const uint16_t*>(weights_.data) + i % copies_ * elements_;
          ops::cuda::prefill_gemm(params, *ex.cuda);
        },
        copies_);
    const double operations = 2.0 * static_cast<double>(shape_.n) * static_cast<double>(shape_.k) *
                              static_cast<double>(rows_);
    bench_.report(name, time, static_cast<double>(elements_) * 2, operations,
                  fmt::format(",\"rows\":{},\"kernel\":\"{}\",\"token_tile\":{},\"splits\":{}",
                              rows_, variant.name, plan.token_tile, plan.splits));
  }

 private:
  void allocate() {
    const Exec& ex = bench_.exec();
    tile_rows_ = ops::linear_plan(shape_.n, shape_.k, ex.cuda->num_sms, shape_.gated).tile_rows;
    elements_ = ops::tiled_weight_elements(shape_.n, shape_.k, tile_rows_);
    copies_ = bench_.cold_copies(static_cast<uint64_t>(elements_) * 2);
    weights_ = bench_.random(ex.activation, {copies_, elements_}, 0.02f);
    x_ = bench_.random(ex.activation, {ops::tiled_elements(rows_, shape_.k)});
    // f32 parts are the largest form of the output.
    const int64_t parts = shape_.gated ? 1 : ops::cuda::kPrefillMaxSplits;
    y_ = bench_.zeros(DType::kF32, {parts, rows_, shape_.n});
  }

  TensorView whole_y() const {
    const DType type = bench_.exec().activation;
    if (shape_.gated) return {y_.data, type, {ops::tiled_elements(rows_, shape_.n / 2)}};
    return {y_.data, type, {rows_, shape_.n}};
  }

  CudaBench& bench_;
  const Shape& shape_;
  int64_t rows_;
  int tile_rows_ = 0;
  int64_t elements_ = 0;  // of one copy of the weights
  int64_t copies_ = 0;
  TensorView weights_, x_, y_;
};

void cases(CudaBench& bench) {
  const int num_sms = bench.exec().cuda->num_sms;
  const bool everything = bench.wanted("");  // no filter: sweeps would take minutes
  for (const Shape& shape : kShapes) {
    for (const int64_t rows : kRows) {
      ShapeBench one(bench, shape, rows);
      const PrefillPlan plan =
          ops::cuda::prefill_plan(shape.n, shape.k, rows, num_sms, /*one_part=*/shape.gated);
      for (const Variant& variant : kVariants) {
        // The small token tile has no pairs.
        if (variant.kernel == PrefillKernel::kWgmmaPair && plan.token_tile == 128) continue;
        one.run(variant, "prefill", plan);
      }
      for (const int token_tile : {128, 256}) {
        if (everything) continue;
        for (const int splits : {1, 2, 3, 4, 6, 8}) {
          if (shape.gated && splits > 1) continue;
          one.run(kVariants[1], "sweep", {token_tile, splits});
        }
      }
      bench.free_tensors();
    }
  }
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  return donar::bench::run_cuda_bench(argc, argv, donar::bench::cases);
}
