// Attention and what stands before it, by heads, sequences and context. Bytes of a decode case are
// the keys and values that must be read; operations of a prefill case are those of the causal half.
// Calls rotate through caches of layers of their own, so that none is in L2. Results are checked in
// tests/ops.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "bench/ops/cuda_bench.h"
#include "ops/activation.h"
#include "ops/attention_plan.h"
#include "ops/paged_attention.h"
#include "ops/qk_norm_rope_store.h"

namespace donar::bench {
namespace {

constexpr int kBlock = kv::kBlockTokens;

struct Heads {
  const char* name;
  int q, kv, dim;

  double token_bytes() const { return 2.0 * kv * dim * 2; }  // keys and values, 16-bit
};
constexpr Heads kHeads8B = {"8B", 32, 8, 128};
constexpr Heads kHeads1B = {"1B", 32, 8, 64};

// `sequences` sequences with `rows` new tokens each after `computed` others.
struct Shape {
  int sequences, computed, rows, window = 0;
};

class Attention {
 public:
  Attention(CudaBench& bench, const Heads& heads, const Shape& shape)
      : bench_(bench), heads_(heads), shape_(shape) {
    Exec& ex = bench.exec();
    const int length = shape.computed + shape.rows;
    const int blocks = (length + kBlock - 1) / kBlock;
    const int64_t rows = int64_t{shape.sequences} * shape.rows;
    const ops::AttentionPlanLimits limits = {
        .max_rows = static_cast<int>(rows),
        .max_sequences = shape.sequences,
        .max_decode_rows = shape.rows > ops::kAttentionDecodeRows ? 1 : static_cast<int>(rows),
        .max_model_len = blocks * kBlock,
        .q_heads = heads.q,
        .kv_heads = heads.kv,
        .head_dim = heads.dim,
        .num_sms = bench.device().num_sms};
    std::vector<int32_t> starts = {0}, positions, tables(shape.sequences * size_t(blocks));
    for (int s = 0; s < shape.sequences; ++s) {
      for (int r = 0; r < shape.rows; ++r) positions.push_back(shape.computed + r);
      starts.push_back(static_cast<int32_t>(positions.size()));
    }
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
    const ops::AttentionItemCapacity capacity = ops::max_attention_items(limits);
    std::vector<ops::AttentionItem> decode(static_cast<size_t>(capacity.decode));
    std::vector<ops::AttentionItem> prefill(static_cast<size_t>(capacity.prefill));
    const ops::AttentionItemCounts counts = ops::plan_attention(
        limits, starts, positions, /*allow_prefill=*/true, decode.data(), prefill.data());

    const int64_t width = int64_t{heads.q} * heads.dim;
    q_ = bench.random(ex.activation, {rows, width});
    out_ = bench.zeros(ex.activation, {ops::num_k_tiles(width), rows, ops::kTileK});
    positions_ = bench.upload(positions);
    starts_ = bench.upload(starts);
    tables_ = bench.upload(tables);
    tables_ = TensorView(tables_.data, DType::kI32, {shape.sequences, blocks});
    copies_ = bench.cold_copies(static_cast<uint64_t>(bytes()));
    const int64_t elements = int64_t{2} * heads.kv * kBlock * heads.dim;
    for (int64_t i = 0; i < copies_; ++i) {
      const TensorView cache =
          bench.random(ex.activation, {int64_t{shape.sequences} * blocks * elements});
      layers_.push_back(
          {cache.data, ex.activation, int64_t{shape.sequences} * blocks, heads.kv, heads.dim});
    }
    plan_ = {
        .decode_items = uploaded(decode),
        .prefill_items = uploaded(prefill),
        .counts = bench.upload(std::vector<int32_t>{counts.decode, counts.prefill}).as<int32_t>(),
        .has_decode_items = counts.decode > 0,
        .num_prefill_items = counts.prefill,
        .workspace =
            bench.zeros(DType::kU8, {static_cast<int64_t>(ops::attention_workspace_bytes(limits))})
                .data,
        .limits = limits};
  }

  // Keys that are read at least once.
  double bytes() const {
    const int length = shape_.computed + shape_.rows;
    const int seen = shape_.window > 0 ? std::min(length, shape_.window + shape_.rows - 1) : length;
    return double(shape_.sequences) * seen * heads_.token_bytes();
  }
  double operations() const {
    double keys = 0;
    for (int r = 0; r < shape_.rows; ++r) {
      const int seen = shape_.computed + r + 1;
      keys += shape_.window > 0 ? std::min(seen, shape_.window) : seen;
    }
    return 4.0 * shape_.sequences * keys * heads_.q * heads_.dim;
  }

  void run(const std::string& name) {
    const ops::AttentionParams params = {
        .q_heads = heads_.q, .scale = 0.1f, .window = shape_.window};
    const auto work = [&](int64_t i) {
      ops::paged_attention(bench_.exec(), q_, positions_, starts_, tables_, plan_,
                           layers_[static_cast<size_t>(i % copies_)], params, out_);
    };
    bench_.report(name, bench_.measure(work, copies_), bytes(),
                  shape_.rows > ops::kAttentionDecodeRows ? operations() : 0);
    bench_.free_tensors();
  }

 private:
  const ops::AttentionItem* uploaded(const std::vector<ops::AttentionItem>& items) {
    std::vector<int32_t> ints(items.size() * sizeof(ops::AttentionItem) / sizeof(int32_t));
    std::memcpy(ints.data(), items.data(), items.size() * sizeof(ops::AttentionItem));
    return static_cast<const ops::AttentionItem*>(bench_.upload(ints).data);
  }

  CudaBench& bench_;
  const Heads heads_;
  const Shape shape_;
  int64_t copies_ = 1;
  TensorView q_, out_, positions_, starts_, tables_;
  std::vector<kv::KvLayer> layers_;
  ops::AttentionPlan plan_;
};

void attention(CudaBench& bench, const std::string& kind, const Heads& heads, const Shape& shape) {
  const std::string name = fmt::format(
      "attention {} {} {} x {} after {}{}", kind, heads.name, shape.sequences, shape.rows,
      shape.computed, shape.window > 0 ? fmt::format(" window {}", shape.window) : "");
  if (bench.wanted(name)) Attention(bench, heads, shape).run(name);
}

// Sums of `parts` f32 parts (0: one part of 16 bits), rotation and store of `rows` rows.
void rope(CudaBench& bench, const Heads& heads, int64_t rows, int64_t parts) {
  const std::string name = fmt::format("qk_norm_rope_store {} {} rows {}", heads.name, rows,
                                       parts > 0 ? fmt::format("{} parts", parts) : "16-bit");
  if (!bench.wanted(name)) return;
  Exec& ex = bench.exec();
  const DType in = parts > 0 ? DType::kF32 : ex.activation;
  const int64_t num_parts = std::max<int64_t>(parts, 1);
  const int64_t width = int64_t{heads.q + 2 * heads.kv} * heads.dim;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const double read = static_cast<double>(num_parts * rows * width) * double(dtype_size(in));
  const double bytes = read + static_cast<double>(rows * width) * 2;
  const int64_t copies = bench.cold_copies(static_cast<uint64_t>(bytes));
  std::vector<TensorView> inputs;
  for (int64_t i = 0; i < copies; ++i) inputs.push_back(bench.random(in, {num_parts, rows, width}));
  std::vector<int32_t> numbers(static_cast<size_t>(rows));
  std::iota(numbers.begin(), numbers.end(), 0);
  const TensorView positions = bench.upload(numbers);
  const TensorView cos_sin = bench.random(DType::kF32, {rows, 2, heads.dim / 2});
  const TensorView norm = bench.random(DType::kF32, {heads.dim});
  const TensorView q = bench.zeros(ex.activation, {rows, int64_t{heads.q} * heads.dim});
  const TensorView cache = bench.zeros(ex.activation, {blocks * 2 * heads.kv * kBlock * heads.dim});
  const kv::KvLayer layer = {cache.data, ex.activation, blocks, heads.kv, heads.dim};
  const auto work = [&](int64_t i) {
    ops::qk_norm_rope_store(ex, inputs[static_cast<size_t>(i % copies)], positions, positions, norm,
                            norm, 1e-6f, cos_sin, heads.q, layer, q);
  };
  bench.report(name, bench.measure(work, copies), bytes);
  bench.free_tensors();
}

void cases(CudaBench& bench) {
  for (const Heads& heads : {kHeads8B, kHeads1B}) {
    for (int sequences : {1, 8, 32, 256}) {
      for (int context : {128, 2048, 4096, 8192})
        attention(bench, "decode", heads, {sequences, context - 1, 1});
    }
    for (int sequences : {128, 256}) attention(bench, "decode", heads, {sequences, 576, 1});
    for (int rows : {2, 4, 8, 16}) attention(bench, "verify", heads, {1, 8192 - rows, rows});
    attention(bench, "decode", heads, {1, 32767, 1});
    attention(bench, "decode", heads, {32, 8191, 1, 1024});
    attention(bench, "prefill", heads, {1, 0, 2048});
    attention(bench, "prefill", heads, {1, 0, 8192});
    attention(bench, "prefill", heads, {1, 6144, 2048});
    attention(bench, "prefill", heads, {4, 0, 512});
    attention(bench, "prefill", heads, {1, 8000, 32});
    attention(bench, "prefill", heads, {1, 0, 8192, 1024});
  }
  for (int64_t rows : {1, 32, 64}) rope(bench, kHeads8B, rows, 4);
  for (int64_t rows : {128, 2048, 8192}) rope(bench, kHeads8B, rows, 0);
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  return donar::bench::run_cuda_bench(argc, argv, donar::bench::cases);
}
