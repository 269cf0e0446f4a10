// The rules that change logits before a token is drawn, one function each, in the order in which
// Sampler applies them. A banned token's logit is -infinity. Ids beyond the row are ignored.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/token_counts.h"

namespace donar::engine {

// Once per request: no token twice in a list. Biases of one token are added up.
void merge_duplicates(SamplingParams& params);

void keep_allowed_tokens(std::span<float> logits, std::span<const int32_t> allowed);
// Bans end and stop tokens while the output is shorter than min_tokens.
void apply_min_tokens(std::span<float> logits, const SamplingParams& params, int64_t num_output,
                      std::span<const int32_t> eos_tokens);
// Bans the last token of every bad word whose other tokens end `output`.
void apply_bad_words(std::span<float> logits, const std::vector<std::vector<int32_t>>& bad_words,
                     std::span<const int32_t> output);
void apply_logit_bias(std::span<float> logits, std::span<const LogitBias> bias);

bool has_penalties(const SamplingParams& params);
// Repetition over prompt and output, then frequency and presence over the output.
void apply_penalties(std::span<float> logits, const SamplingParams& params,
                     const TokenCounts& counts);

}  // namespace donar::engine
