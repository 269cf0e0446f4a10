// Draws one token of a row: temperature -> min_p -> top_k -> top_p, exactly, without sorting the
// row.
#pragma once

#include <cstdint>
#include <span>

#include "engine/request.h"

namespace donar::engine {

// Below this temperature a draw is greedy, as in vLLM.
inline constexpr float kGreedyTemperature = 1e-5f;

// The token that `random` (64 uniform bits) points at. Tokens are ordered by falling logit, ties by
// rising id; min_p, top_k and top_p each keep a beginning of that order, top_p the shortest one
// that holds its share of what the others left. Weights are integers (2^40 for the best token), so
// their sums do not depend on the order of adding.
int32_t draw_token(std::span<const float> logits, const SamplingParams& params, uint64_t random,
                   std::span<int32_t> scratch);  // [logits.size()]

}  // namespace donar::engine
