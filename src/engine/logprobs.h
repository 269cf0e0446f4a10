// Raw log-probabilities of one row: log-softmax of the logits as the model gave them, before every
// rule.
#pragma once

#include <cstdint>
#include <span>

#include "engine/request.h"

namespace donar::engine {

// log(sum(exp(logits))).
double log_sum_exp(std::span<const float> logits);

// The chosen token first, then the best `num_best` in falling order, ties to the lowest id. The
// rank of the chosen token is the number of tokens that are at least as likely, as vLLM counts;
// those of the best are 1, 2, 3... Only the first `num_tokens` ids are counted or listed, but the
// whole row is the denominator.
PositionLogprobs position_logprobs(std::span<const float> logits, int64_t num_tokens,
                                   int32_t chosen, int num_best);

}  // namespace donar::engine
