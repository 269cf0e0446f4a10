// Paged attention: one and many streams at short and long contexts, and prompts.
#include <fmt/format.h>

#include <cmath>
#include <random>

#include "bench/ops/cpu_bench.h"
#include "ops/paged_attention.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

struct Heads {
  int q, kv, dim;
};
constexpr Heads kSmolLM2{9, 3, 64}, kLlama1B{32, 8, 64}, kLlama8B{32, 8, 128};

// The last `rows` tokens of `sequences` contexts.
void attention(CpuBench& bench, Heads heads, int context, int rows, int sequences = 1) {
  const std::string name = fmt::format("attention {}/{}x{} context {} rows {} seqs {}", heads.q,
                                       heads.kv, heads.dim, context, rows, sequences);
  if (!bench.wanted(name)) return;
  const int blocks = (context + 15) / 16;
  const int64_t elements = int64_t{blocks} * sequences * 2 * heads.kv * 16 * heads.dim;
  // A layer each, visited in turn as in a step.
  const CpuBench::Copies layers = bench.cold_copies(elements * 2);
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  auto* first = reinterpret_cast<bf16*>(layers.data);
  for (int64_t i = 0; i < elements; ++i)
    first[i] = i < 100003 ? bf16(normal(generator)) : first[i - 100003];
  layers.repeat_first();
  std::vector<int32_t> positions, starts = {0}, tables;
  for (int s = 0; s < sequences; ++s) {
    for (int r = 0; r < rows; ++r) positions.push_back(context - rows + r);
    for (int b = 0; b < blocks; ++b) tables.push_back(s * blocks + b);
    starts.push_back(static_cast<int32_t>(positions.size()));
  }
  const int64_t total = int64_t{rows} * sequences;
  const int64_t width = int64_t{heads.q} * heads.dim;
  std::vector<float> q = reference::random_floats(total * width, 4);
  std::vector<float> out = poisoned(total * width);
  const ops::AttentionParams params{.q_heads = heads.q,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(heads.dim))};
  const auto layer = [&](int64_t i) {
    return kv::KvLayer{layers.at(i), DType::kBF16, int64_t{blocks} * sequences, heads.kv,
                       heads.dim};
  };
  const CpuBench::Run run = [&](int64_t i) {
    ops::paged_attention(bench.exec(), floats(q, {total, width}), ints(positions, {total}),
                         ints(starts, {sequences + 1}), ints(tables, {sequences, blocks}), {},
                         layer(i), params, floats(out, {total, width}));
  };
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < total; r += std::max<int64_t>(total / 5, 1)) {
    const int head = static_cast<int>(r) % heads.q;
    const int64_t at = r * width + int64_t{head} * heads.dim;
    std::vector<double> spread;
    const auto expected =
        reference::attend(&q[static_cast<size_t>(at)], positions[static_cast<size_t>(r)],
                          &tables[static_cast<size_t>(r / rows * blocks)], layer(0),
                          head / (heads.q / heads.kv), params, head, &spread);
    for (int d = 0; d < heads.dim; ++d) {
      const double value = expected[static_cast<size_t>(d)];
      correct = correct &&
                std::fabs(out[static_cast<size_t>(at + d)] - value) <
                    reference::attention_tolerance(layer(0), value, spread[static_cast<size_t>(d)]);
    }
  }
  double keys = 0;
  for (int32_t position : positions) keys += position + 1;
  bench.report(name, bench.measure_beside_read(run, layers),
               {.bytes = static_cast<double>(elements) * 2,
                .operations = 4.0 * keys * heads.q * heads.dim,
                .tera_peak = bench.ceilings().bf16_tflops},
               correct);
}

}  // namespace

void attention_cases(CpuBench& bench) {
  for (int context : {128, 1024, 4096}) attention(bench, kSmolLM2, context, 1);
  for (int context : {128, 1024, 4096}) attention(bench, kLlama1B, context, 1);
  for (int context : {128, 4096}) attention(bench, kLlama8B, context, 1);
  attention(bench, kSmolLM2, 256, 1, 16);
  attention(bench, kLlama1B, 256, 1, 8);
  attention(bench, kLlama1B, 1024, 1, 8);
  attention(bench, kLlama1B, 1024, 5);  // a draft to verify
  for (int rows : {32, 256}) attention(bench, kSmolLM2, rows, rows);
  for (int rows : {256, 1024, 2048}) attention(bench, kLlama1B, rows, rows);
  attention(bench, kLlama1B, 4096, 256);  // a chunk of a long prompt
  attention(bench, kLlama8B, 1024, 1024);
}

}  // namespace donar::bench
