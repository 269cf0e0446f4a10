// Rotary embeddings: inverse frequencies and the cos/sin table of a model, in the float arithmetic
// of the reference library.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace donar::model {

// [head_dim / 2]: radians per position of each pair.
std::vector<float> inverse_frequencies(const RopeConfig& rope, int head_dim);

// What cos and sin are multiplied by: 1 except for yarn.
float attention_factor(const RopeConfig& rope);

// The cos and sin of one position, head_dim / 2 values each.
void fill_cos_sin(const std::vector<float>& frequencies, float factor, int64_t position, float* cos,
                  float* sin);

}  // namespace donar::model
