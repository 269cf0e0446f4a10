// The CPU sampler: greedy, temperature alone, filters, penalties and logprobs on rows of logits.
// Compared with reading the logits, which come from the head's product and lie in the caches.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>

#include "bench/ops/cpu_bench.h"
#include "engine/philox.h"
#include "engine/sampler.h"
#include "engine/sampling_rules.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

using engine::SamplingParams;

constexpr int kPromptTokens = 200, kPromptIds = 1000;

// Whether `token` is the one that the rules and `random` lead to: sorted, in double precision.
bool is_drawn(std::vector<float> logits, const SamplingParams& params,
              const std::vector<int32_t>& prompt, uint64_t random, int32_t token) {
  if (token < 0 || token >= static_cast<int32_t>(logits.size())) return false;
  std::vector<int32_t> seen = prompt;
  std::ranges::sort(seen);
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (int32_t id : seen) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  }
  const auto logit_of = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]}; };
  if (params.temperature == 0.0f)
    return logit_of(token) == double{*std::ranges::max_element(logits)};

  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, std::greater<>(), logit_of);
  if (params.top_k > 0) ids.resize(std::min(ids.size(), static_cast<size_t>(params.top_k)));
  const auto weight_of = [&](int32_t id) {
    return std::exp((logit_of(id) - logit_of(ids[0])) / double{params.temperature});
  };
  double total = 0, kept = 0;
  for (int32_t id : ids) total += weight_of(id);
  size_t size = 0;
  while (size < ids.size() && (params.top_p >= 1.0f || kept < double{params.top_p} * total))
    kept += weight_of(ids[size++]);
  ids.resize(size);
  if (std::ranges::find(ids, token) == ids.end()) return false;
  // `random` points into the weights of falling logits; in what order a draw takes those that
  // differ by less than a sixteenth of the temperature is its own affair.
  const double near = double{params.temperature} / 16;
  double before = 0, up_to = 0;
  for (int32_t id : ids) {
    const double above = logit_of(id) - logit_of(token);
    if (above >= near) before += weight_of(id);
    if (above > -near) up_to += weight_of(id);
  }
  const double target = std::ldexp(static_cast<double>(random), -64) * kept;
  const double slack = 1e-5 * total;  // of weights in float
  return before <= target + slack && target <= up_to + slack;
}

// The chosen token's logprob and how many are listed.
bool has_logprobs(const std::vector<float>& logits, const SamplingParams& params,
                  const engine::SampledToken& sampled) {
  if (params.num_logprobs < 0) return sampled.logprobs.empty();
  if (sampled.logprobs.size() != static_cast<size_t>(params.num_logprobs) + 1) return false;
  const double max = double{*std::ranges::max_element(logits)};
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit} - max);
  return std::ranges::all_of(sampled.logprobs, [&](const engine::TokenLogprob& listed) {
    const double value = double{logits[static_cast<size_t>(listed.token)]} - max - std::log(sum);
    return std::fabs(double{listed.logprob} - value) <= 1e-4;
  });
}

void sample(CpuBench& bench, const std::string& what, const SamplingParams& params, int64_t vocab,
            int64_t rows) {
  const std::string name = fmt::format("sample {} {} rows {}", what, vocab, rows);
  if (!bench.wanted(name)) return;
  MemoryLedger ledger;
  const auto sampler =
      *engine::Sampler::create(ledger, vocab, vocab, {2}, bench.pool().num_threads());
  std::vector<std::unique_ptr<engine::ActiveRequest>> requests;
  std::vector<std::unique_ptr<engine::Sequence>> sequences;
  std::vector<engine::HeadRow> head_rows;
  for (int64_t i = 0; i < rows; ++i) {
    auto& request = requests.emplace_back(std::make_unique<engine::ActiveRequest>());
    for (int32_t t = 0; t < kPromptTokens; ++t)
      request->request.prompt.push_back(t * 31 % kPromptIds);
    request->request.sampling = params;
    request->request.sampling.seed = static_cast<uint64_t>(i);
    sequences.push_back(std::make_unique<engine::Sequence>(*request, 0));
    head_rows.push_back({sequences.back().get(), -1});
  }
  const std::vector<float> source = reference::random_floats(rows * vocab, 13, 3.0f);
  const CpuBench::Copies logits = bench.cold_copies(rows * vocab * int64_t{sizeof(float)});
  const std::span row_logits(reinterpret_cast<float*>(logits.data), source.size());
  std::ranges::copy(source, row_logits.begin());
  std::vector<engine::SampledToken> out(static_cast<size_t>(rows));
  // Penalties change the logits: the copy that puts them back is timed too.
  const bool restores = engine::has_penalties(params);
  const CpuBench::Run run = [&](int64_t) {
    if (restores) std::ranges::copy(source, row_logits.begin());
    sampler.run(bench.pool(), row_logits, head_rows, out);
  };
  run(0);
  bool correct = true;
  for (int64_t i = 0; i < rows; ++i) {
    const std::vector<float> row(source.begin() + i * vocab, source.begin() + (i + 1) * vocab);
    const engine::SampledToken& sampled = out[static_cast<size_t>(i)];
    const std::vector<int32_t>& prompt = requests[static_cast<size_t>(i)]->request.prompt;
    const uint64_t random = engine::philox_bits(static_cast<uint64_t>(i), prompt.size());
    correct = correct && is_drawn(row, params, prompt, random, sampled.token) &&
              has_logprobs(row, params, sampled);
  }
  bench.report(name, bench.measure_beside_read(run, {logits.data, logits.bytes, logits.stride, 1}),
               {.bytes = static_cast<double>(logits.bytes)}, correct);
}

}  // namespace

void sampler_cases(CpuBench& bench) {
  SamplingParams greedy;
  greedy.temperature = 0.0f;
  SamplingParams plain;
  plain.temperature = 0.8f;
  SamplingParams filtered = plain;
  filtered.top_k = 40;
  filtered.top_p = 0.95f;
  SamplingParams nucleus = plain;
  nucleus.top_p = 0.95f;
  SamplingParams penalized = greedy;
  penalized.repetition_penalty = 1.1f;
  SamplingParams logprobs = greedy;
  logprobs.num_logprobs = 5;
  for (int64_t vocab : {49152, 128256}) {
    for (int64_t rows : {1, 16}) {
      sample(bench, "greedy", greedy, vocab, rows);
      sample(bench, "temperature", plain, vocab, rows);
      sample(bench, "top_k top_p", filtered, vocab, rows);
      sample(bench, "top_p", nucleus, vocab, rows);
      sample(bench, "repetition_penalty", penalized, vocab, rows);
      sample(bench, "logprobs", logprobs, vocab, rows);
    }
  }
}

}  // namespace donar::bench
