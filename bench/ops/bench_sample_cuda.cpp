// Sampling at the vocabulary of Llama 3: greedy, drawn in every way, with rules and with logprobs.
// The share of the read ceiling counts the logits once; a draw reads them three or four times. The
// rows of a case are checked: each draws the same token alone.
#include <fmt/format.h>

#include <cstring>

#include "bench/ops/cuda_bench.h"
#include "ops/sample_tokens.h"

namespace donar::bench {
namespace {

using ops::SampleBatch;
using ops::SampleKind;
using ops::SampleLogprobs;
using ops::SampleRow;
using ops::SampleState;

constexpr int64_t kVocab = 128256;

struct Mode {
  const char* name;
  float temperature = 1.0f;
  float top_p = 1.0f;
  int top_k = 0;
  float min_p = 0.0f;
  bool penalties = false;
  int num_logprobs = -1;
  float deviation = 2.5f;  // of the logits
};
constexpr Mode kModes[] = {
    {.name = "greedy", .temperature = 0.0f},
    {.name = "greedy, 20 logprobs", .temperature = 0.0f, .num_logprobs = 20},
    {.name = "temperature"},
    {.name = "top_p 0.9", .top_p = 0.9f},
    {.name = "top_k 50", .top_k = 50},
    {.name = "top_k 20, top_p 0.8", .temperature = 0.7f, .top_p = 0.8f, .top_k = 20},
    {.name = "min_p 0.05", .min_p = 0.05f},
    {.name = "top_p 0.9, penalties", .top_p = 0.9f, .penalties = true},
    {.name = "top_p 0.9, flat", .top_p = 0.9f, .deviation = 0.05f},  // the rows are read again
};

class SampleBench {
 public:
  SampleBench(CudaBench& bench, const Mode& mode, int64_t num_rows) : bench_(bench) {
    logits_ = bench.random(DType::kF32, {num_rows, kVocab}, mode.deviation);
    ids_ = bench.zeros(DType::kI32, {num_rows});
    logprobs_ = bench.zeros(DType::kU8, {num_rows * static_cast<int64_t>(sizeof(SampleLogprobs))});
    const int64_t counts_slots = mode.penalties ? num_rows : 0;
    const auto state_bytes =
        static_cast<int64_t>(ops::sample_state_bytes(kVocab, num_rows, counts_slots, num_rows));
    state_ = ops::sample_state(bench.zeros(DType::kU8, {state_bytes}).data, kVocab, num_rows,
                               counts_slots, num_rows);
    for (int64_t i = 0; i < num_rows; ++i) {
      SampleRow row;
      row.kind = SampleKind::kDraw;
      row.slot = static_cast<int32_t>(i);
      row.seed = static_cast<uint64_t>(i);
      row.position = 100;
      row.temperature = mode.temperature;
      row.top_p = mode.top_p;
      row.top_k = mode.top_k;
      row.min_p_distance = ops::min_p_distance(mode.min_p);
      row.num_logprobs = mode.num_logprobs;
      row.logprobs_index = static_cast<int32_t>(i);
      if (mode.penalties) {
        row.counts_slot = static_cast<int32_t>(i);
        row.repetition_penalty = 1.0001f;  // the logits change with every call: hardly
        row.num_logprobs = -1;
      }
      rows_.push_back(row);
    }
    if (mode.penalties) {
      std::vector<int32_t> prompt;
      for (int32_t token = 0; token < 2000; ++token) prompt.push_back(token * 61);
      const TensorView tokens = bench.upload(prompt);
      for (int64_t i = 0; i < num_rows; ++i)
        ops::add_token_counts(bench.exec(), state_, i, tokens.as<int32_t>(), 2000,
                              /*is_output=*/false);
    }
    std::vector<int32_t> words(rows_.size() * sizeof(SampleRow) / sizeof(int32_t));
    std::memcpy(words.data(), rows_.data(), words.size() * sizeof(int32_t));
    device_rows_ = bench.upload(words);
  }

  int64_t num_rows() const { return static_cast<int64_t>(rows_.size()); }

  void run(int64_t first, int64_t count) {
    SampleBatch batch;
    batch.num_rows = count;
    batch.num_tokens = kVocab;
    batch.needs = ops::sample_needs(rows_);
    batch.rows = static_cast<const SampleRow*>(device_rows_.data) + first;
    ops::sample_tokens(bench_.exec(), logits_.as<float>() + first * kVocab, batch, state_,
                       ids_.as<int32_t>() + first, static_cast<SampleLogprobs*>(logprobs_.data));
  }

  std::vector<int32_t> ids() {
    std::vector<int32_t> ids(rows_.size());
    cuda_copy(ids.data(), ids_.data, ids.size() * sizeof(int32_t), bench_.exec().cuda->stream);
    cuda_wait(bench_.exec().cuda->stream);
    return ids;
  }

  // What a row draws alone.
  bool rows_are_independent() {
    run(0, num_rows());
    const std::vector<int32_t> together = ids();
    for (int64_t i = 0; i < num_rows(); ++i) run(i, 1);
    return ids() == together;
  }

 private:
  CudaBench& bench_;
  TensorView logits_, ids_, logprobs_, device_rows_;
  SampleState state_;
  std::vector<SampleRow> rows_;
};

void cases(CudaBench& bench) {
  for (const Mode& mode : kModes) {
    for (const int64_t num_rows : {1, 8, 64, 256}) {
      const std::string name =
          fmt::format("sample_tokens {} x {}: {}", num_rows, kVocab, mode.name);
      if (!bench.wanted(name)) continue;
      SampleBench one(bench, mode, num_rows);
      // Penalties count what is drawn and change the logits: a second run is another one.
      if (!mode.penalties) bench.expect(one.rows_are_independent(), name);
      // As in a step: the head has just written the logits.
      const CudaBench::Time time = bench.measure([&](int64_t) { one.run(0, num_rows); });
      bench.report(name, time, static_cast<double>(num_rows * kVocab) * sizeof(float), 0,
                   fmt::format(",\"rows\":{}", num_rows));
      bench.free_tensors();
    }
  }
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  return donar::bench::run_cuda_bench(argc, argv, donar::bench::cases);
}
