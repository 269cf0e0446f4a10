// The products of decode steps, by model, number of rows and matrix: every layer has weights of its
// own, and calls follow each other in one graph as they do in a step. "step" is all products of a
// step together, without what lies between them. Filter "sweep": other tiles and splits than
// linear_plan's, which is what its numbers are made from. Results are checked in tests/ops.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "bench/ops/cuda_bench.h"
#include "ops/activation.h"
#include "ops/linear.h"
#include "ops/linear_plan.h"

namespace donar::bench {
namespace {

struct Shape {
  const char* name;
  int64_t n, k;
  bool gated;
  bool head;

  double bytes() const { return 2.0 * static_cast<double>(n) * static_cast<double>(k); }
};

struct Model {
  const char* name;
  int layers;
  std::array<Shape, 5> shapes;
};

constexpr Model kModels[] = {
    {"8B",
     32,
     {{{"qkv", 6144, 4096, false, false},
       {"o", 4096, 4096, false, false},
       {"gate-up", 28672, 4096, true, false},
       {"down", 4096, 14336, false, false},
       {"head", 128256, 4096, false, true}}}},
    {"1B",
     16,
     {{{"qkv", 3072, 2048, false, false},
       {"o", 2048, 2048, false, false},
       {"gate-up", 16384, 2048, true, false},
       {"down", 2048, 8192, false, false},
       {"head", 128256, 2048, false, true}}}},
};
constexpr int64_t kRows[] = {1, 2, 4, 8, 16, 32, 48, 64};

// The matrices of one shape, one a layer, and what they read and write.
class Products {
 public:
  // Room for any tile_rows.
  Products(CudaBench& bench, const Shape& shape, int layers) : bench_(bench), shape_(shape) {
    const ops::LinearPlan plan = ops::linear_plan(shape.n, shape.k, bench.device().num_sms,
                                                  /*one_part=*/shape.gated || shape.head);
    const int64_t padded = shape.n + ops::kMaxTileRows;
    const float deviation = 1.0f / std::sqrt(static_cast<float>(shape.k));
    for (int i = 0; i < (shape.head ? 1 : layers); ++i) {
      quant::LinearWeight weight;
      weight.format =
          bench.exec().activation == DType::kF16 ? quant::Format::kF16 : quant::Format::kBF16;
      weight.layout = quant::Layout::kTiled;
      weight.n = shape.n;
      weight.k = shape.k;
      weight.data =
          bench.random(bench.exec().activation, {ops::tiled_elements(padded, shape.k)}, deviation)
              .data;
      weight.interleaved = shape.gated;
      weights_.push_back(weight);
    }
    set_plan(plan);
    x_ = bench.random(bench.exec().activation, {ops::tiled_elements(ops::kDecodeRows, shape.k)})
             .data;
    const int64_t parts = shape.gated || shape.head ? 1 : ops::kMaxSplits;
    y_ = bench.zeros(DType::kF32, {parts, ops::kDecodeRows, shape.n}).data;
  }

  const Shape& shape() const { return shape_; }
  int64_t copies() const { return static_cast<int64_t>(weights_.size()); }
  void set_plan(ops::LinearPlan plan) {
    for (quant::LinearWeight& weight : weights_) {
      weight.tile_rows = plan.tile_rows;
      weight.splits = plan.splits;
    }
  }

  void run(int64_t layer, int64_t rows) {
    Exec& ex = bench_.exec();
    const quant::LinearGroup group{{weights_[static_cast<size_t>(layer % copies())]}, 1};
    const TensorView x = ops::activation_view(ex, x_, rows, shape_.k);
    if (shape_.gated) {
      return ops::linear_silu_mul(ex, x, group, ops::activation_view(ex, y_, rows, shape_.n / 2));
    }
    const ops::LinearOutput output = ops::linear_output(ex, group, rows);
    ops::linear(ex, x, group, TensorView(y_, output.dtype, {output.parts, rows, shape_.n}));
  }

  void report(const std::string& name, int64_t rows) {
    if (!bench_.wanted(name)) return;
    const CudaBench::Time time = bench_.measure([&](int64_t i) { run(i, rows); }, copies());
    const quant::LinearWeight& weight = weights_.front();
    bench_.report(fmt::format("{} ({} x {})", name, weight.tile_rows, weight.splits), time,
                  shape_.bytes(), static_cast<double>(rows) * shape_.bytes(),
                  fmt::format(",\"rows\":{},\"tile_rows\":{},\"splits\":{}", rows, weight.tile_rows,
                              weight.splits));
  }

 private:
  CudaBench& bench_;
  const Shape shape_;
  std::vector<quant::LinearWeight> weights_;
  void* x_ = nullptr;
  void* y_ = nullptr;
};

// Plans that linear_plan passed over, the best first.
void sweep(CudaBench& bench, Products& products, const std::string& name, int64_t rows) {
  constexpr size_t kBest = 8;
  const Shape& shape = products.shape();
  const int num_sms = bench.device().num_sms;
  const auto cost = [&](ops::LinearPlan plan) {
    return ops::linear_plan_cost(shape.n, shape.k, num_sms, plan);
  };
  std::vector<ops::LinearPlan> plans;
  for (int splits = 1; splits <= (shape.gated || shape.head ? 1 : ops::kMaxSplits); splits *= 2) {
    for (int tile_rows = ops::kTileRowsStep; tile_rows <= ops::kMaxTileRows;
         tile_rows += ops::kTileRowsStep)
      plans.push_back({tile_rows, splits});
  }
  std::sort(plans.begin(), plans.end(),
            [&](const ops::LinearPlan& a, const ops::LinearPlan& b) { return cost(a) < cost(b); });
  plans.resize(std::min(plans.size(), kBest));
  for (const ops::LinearPlan& plan : plans) {
    products.set_plan(plan);
    products.report(name, rows);
  }
  products.set_plan(plans.front());
}

void run_model(CudaBench& bench, const Model& model) {
  std::vector<Products> products;
  for (const Shape& shape : model.shapes) products.emplace_back(bench, shape, model.layers);
  // Weights are read ahead of what comes before in the stream: they must be there.
  if (cudaStreamSynchronize(bench.exec().cuda->stream) != cudaSuccess)
    throw CudaError("filling the weights failed");

  double bytes = 0;
  for (const Products& matrix : products)
    bytes += matrix.shape().bytes() * static_cast<double>(matrix.copies());
  for (const int64_t rows : kRows) {
    for (Products& matrix : products) {
      const std::string name = fmt::format("{} {} rows {}", model.name, matrix.shape().name, rows);
      matrix.report("linear " + name, rows);
      if (bench.wanted("sweep " + name) && !bench.wanted("linear " + name))
        sweep(bench, matrix, "sweep " + name, rows);
    }
    const std::string name = fmt::format("linear {} step rows {}", model.name, rows);
    if (!bench.wanted(name)) continue;
    const auto step = [&](int64_t) {
      for (int layer = 0; layer < model.layers; ++layer) {
        for (Products& matrix : products) {
          if (!matrix.shape().head) matrix.run(layer, rows);
        }
      }
      products.back().run(0, rows);
    };
    bench.report(name, bench.measure(step), bytes, static_cast<double>(rows) * bytes,
                 fmt::format(",\"rows\":{}", rows));
  }
}

void cases(CudaBench& bench) {
  for (const Model& model : kModels) {
    const std::string name = model.name;
    bool wanted = false;
    for (const int64_t rows : kRows) {
      wanted = wanted || bench.wanted(fmt::format("linear {} step rows {}", name, rows));
      for (const Shape& shape : model.shapes) {
        const std::string matrix = fmt::format("{} {} rows {}", name, shape.name, rows);
        wanted = wanted || bench.wanted("linear " + matrix) || bench.wanted("sweep " + matrix);
      }
    }
    if (wanted) run_model(bench, model);
    bench.free_tensors();
  }
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  return donar::bench::run_cuda_bench(argc, argv, donar::bench::cases);
}
