// Raw logprobs first; then allowed ids -> min_tokens, bad words, bias -> penalties -> temperature
// -> min_p -> top_k -> top_p.
#include "engine/sampler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/draw.h"
#include "engine/logprobs.h"
#include "engine/philox.h"
#include "engine/sampling_rules.h"

namespace donar::engine {

Result<Sampler> Sampler::create(MemoryLedger& ledger, int64_t vocab_size, int64_t num_tokens,
                                std::vector<int32_t> eos_tokens, int num_threads) {
  DONAR_CHECK(num_tokens > 0 && num_tokens <= vocab_size && num_threads > 0);
  Result<Buffer> ids =
      Buffer::allocate(ledger, MemoryUse::kWorkspace,
                       static_cast<uint64_t>(num_threads * num_tokens) * sizeof(int32_t));
  if (!ids) return forward_error(ids);
  Result<Buffer> raw_logits =
      Buffer::allocate(ledger, MemoryUse::kWorkspace,
                       static_cast<uint64_t>(num_threads * vocab_size) * sizeof(float));
  if (!raw_logits) return forward_error(raw_logits);
  Sampler sampler;
  sampler.vocab_size_ = vocab_size;
  sampler.num_tokens_ = num_tokens;
  sampler.eos_tokens_ = std::move(eos_tokens);
  sampler.num_threads_ = num_threads;
  sampler.ids_ = std::move(*ids);
  sampler.raw_logits_ = std::move(*raw_logits);
  return sampler;
}

void Sampler::run(ThreadPool& pool, std::span<float> logits, std::span<const HeadRow> rows,
                  std::span<SampledToken> out) const {
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  const int64_t num_lanes = std::min<int64_t>(num_threads_, num_rows);
  // A lane takes every num_lanes-th row and has a piece of scratch of its own; which thread runs it
  // does not matter.
  pool.parallel_for(num_lanes, /*chunk=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      const Scratch scratch{
          {ids_.as<int32_t>() + lane * num_tokens_, static_cast<size_t>(num_tokens_)},
          {raw_logits_.as<float>() + lane * vocab_size_, static_cast<size_t>(vocab_size_)}};
      for (int64_t i = lane; i < num_rows; i += num_lanes) {
        const HeadRow& row = rows[static_cast<size_t>(i)];
        const std::span row_logits =
            logits.subspan(static_cast<size_t>(i * vocab_size_), static_cast<size_t>(vocab_size_));
        out[static_cast<size_t>(i)] = row.prompt_token >= 0
                                          ? prompt_logprobs(row_logits, row)
                                          : sample(row_logits, *row.sequence, scratch);
      }
    }
  });
}

SampledToken Sampler::prompt_logprobs(std::span<float> logits, const HeadRow& row) const {
  SampledToken result;
  result.token = row.sequence->tokens[static_cast<size_t>(row.prompt_token)];
  result.logprobs = position_logprobs(logits, num_tokens_, result.token,
                                      row.sequence->sampling().num_prompt_logprobs);
  return result;
}

SampledToken Sampler::sample(std::span<float> logits, Sequence& sequence,
                             const Scratch& scratch) const {
  const SamplingParams& params = sequence.sampling();
  const std::span<float> row = logits.first(static_cast<size_t>(num_tokens_));
  const std::span<const int32_t> output =
      std::span(sequence.tokens).subspan(static_cast<size_t>(sequence.num_prompt()));

  // Which token's logprob is wanted is known only when the rules have changed the row.
  const bool wants_logprobs = params.num_logprobs >= 0;
  if (wants_logprobs) std::ranges::copy(logits, scratch.raw_logits.begin());

  if (!params.allowed_tokens.empty()) keep_allowed_tokens(row, params.allowed_tokens);
  apply_min_tokens(row, params, static_cast<int64_t>(output.size()), eos_tokens_);
  apply_bad_words(row, params.bad_words, output);
  apply_logit_bias(row, params.logit_bias);
  if (has_penalties(params)) {
    sequence.counts.catch_up(sequence.tokens, sequence.num_prompt());
    apply_penalties(row, params, sequence.counts);
  }

  SampledToken result;
  result.token =
      draw_token(row, params, philox_bits(sequence.seed(), sequence.tokens.size()), scratch.ids);
  if (row[static_cast<size_t>(result.token)] == -std::numeric_limits<float>::infinity() &&
      !params.allowed_tokens.empty()) {
    result.token = std::ranges::min(
        params.allowed_tokens);  // the rules together ban everything: the allowed list wins
  }
  if (wants_logprobs) {
    result.logprobs =
        position_logprobs(scratch.raw_logits, num_tokens_, result.token, params.num_logprobs);
  }
  return result;
}

}  // namespace donar::engine
