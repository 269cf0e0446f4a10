// A model without weights: the next token is a hash of all tokens before it. Its KV cache holds one
// such hash per slot, and every step checks that the blocks of each sequence still hold what was
// computed for it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "engine/sequence.h"
#include "engine/step_runner.h"

namespace donar::engine::test {

inline constexpr int32_t kFakeEos = 2;
inline constexpr int32_t kFirstFakeToken = 10;  // ordinary tokens are 10..59

inline uint64_t fake_hash(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu ^ (hash >> 29);
}

inline uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t hash = 1;
  for (int32_t token : tokens) hash = fake_hash(hash, static_cast<uint64_t>(token));
  return hash;
}

// What the fake model says after `tokens`.
inline int32_t fake_token(const SamplingParams& params, uint64_t seed, uint64_t hash,
                          int num_output) {
  const uint64_t drawn = params.temperature > 0.0f ? fake_hash(hash, seed) : hash;
  if ((drawn >> 8) % 29 == 0 && num_output >= params.min_tokens) return kFakeEos;
  return kFirstFakeToken + static_cast<int32_t>((drawn >> 16) % 50);
}

// What one choice of a request must give in full.
inline std::vector<int32_t> fake_output(const Request& request, int choice) {
  std::vector<int32_t> tokens = request.prompt;
  const uint64_t seed = request.sampling.seed.value_or(0) + static_cast<uint64_t>(choice);
  std::vector<int32_t> output;
  while (static_cast<int>(output.size()) < request.max_tokens) {
    const int32_t token =
        fake_token(request.sampling, seed, hash_of(tokens), static_cast<int>(output.size()));
    tokens.push_back(token);
    output.push_back(token);
    if (token == kFakeEos && !request.sampling.ignore_eos) break;
  }
  return output;
}

class FakeRunner : public StepRunner {
 public:
  explicit FakeRunner(int64_t num_blocks)
      : slots_(static_cast<size_t>(num_blocks * kv::kBlockTokens)) {}

  std::function<Result<void>(const StepPlan&)> before_step;  // an error here is the step's error

  Result<StepResult> run(const StepPlan& plan) override {
    if (before_step) {
      if (Result<void> ok = before_step(plan); !ok) return forward_error(ok);
    }
    StepResult result;
    result.prompt_logprobs.resize(plan.lines.size());
    for (size_t i = 0; i < plan.lines.size(); ++i)
      run_line(plan.lines[i], result, result.prompt_logprobs[i]);
    return result;
  }

 private:
  void run_line(const PlanLine& line, StepResult& result,
                std::vector<PositionLogprobs>& prompt_logprobs) {
    const Sequence& sequence = *line.sequence;
    const std::span<const int32_t> blocks = sequence.blocks.ids();
    const int end = sequence.num_computed + line.num_tokens;
    uint64_t hash = 1;
    for (int position = 0; position < end; ++position) {
      hash = fake_hash(hash, static_cast<uint64_t>(sequence.tokens[static_cast<size_t>(position)]));
      uint64_t& slot = slots_[static_cast<size_t>(
          blocks[static_cast<size_t>(position / kv::kBlockTokens)] * kv::kBlockTokens +
          position % kv::kBlockTokens)];
      if (position < sequence.num_computed) {
        EXPECT_EQ(slot, hash) << "position " << position << " of " << sequence.num_tokens()
                              << " was overwritten";
        continue;
      }
      slot = hash;
      if (sequence.wants_prompt_logprobs() && position + 1 < sequence.num_prompt()) {
        prompt_logprobs.push_back({{sequence.tokens[static_cast<size_t>(position) + 1],
                                    -static_cast<float>(position), 1}});
      }
    }
    if (line.samples) {
      const int32_t token =
          fake_token(sequence.sampling(), sequence.seed(), hash, sequence.num_output());
      result.sampled.push_back({token, {{token, -1.0f, 1}}});
    }
  }

  std::vector<uint64_t> slots_;
};

inline std::vector<int32_t> fake_prompt(int32_t first, int count) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < count; ++i) prompt.push_back(kFirstFakeToken + (first + i * 7) % 50);
  return prompt;
}

inline Request fake_request(std::vector<int32_t> prompt, int max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0.0f;
  request.sampling.seed = 0;
  return request;
}

}  // namespace donar::engine::test
