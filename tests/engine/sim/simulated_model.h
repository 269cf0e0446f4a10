// The fake model of fake_runner.h as it runs on the simulated device: a row's hash grows out of
// that of the position before it, which lies in the KV cache, at the block that the device's own
// copy of the block tables names.
#pragma once

#include "engine/request.h"
#include "model/model_config.h"

namespace donar::engine::test {

inline constexpr int64_t kSimulatedVocab = 80;

// One layer whose keys are as wide as a hash.
model::ModelConfig simulated_config();

// What a row of this hash answers. `counted`: of a row with penalties, occurrences of its output.
int32_t simulated_token(bool is_greedy, uint64_t seed, uint64_t hash, bool bans_eos, int counted);
float simulated_logprob(uint64_t hash);

}  // namespace donar::engine::test
