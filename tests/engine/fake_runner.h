// A model without weights: the next token is a hash of all tokens before it. Its KV cache holds one
// such hash per slot, and every step checks that the blocks of each sequence still hold what was
// computed for it.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
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

// What a device sees of one line: copied at launch, since the host's data goes on changing.
struct FakeLine {
  std::vector<int32_t> tokens;  // all up to the line's end; the last one is -1 when only the device
                                // knows it
  std::vector<int32_t> blocks;
  int begin = 0;
  int slot = 0;
  bool samples = false;
  SamplingParams sampling;
  uint64_t seed = 0;
  int num_prompt = 0;
  bool wants_prompt_logprobs = false;
  std::vector<int32_t> prompt;
};

// depth 0 computes in launch. depth 1 computes as late as it may: a step runs when it is collected.
class FakeRunner : public StepRunner {
 public:
  explicit FakeRunner(int64_t num_blocks, int depth = 0)
      : depth_(depth), kv_(static_cast<size_t>(num_blocks * kv::kBlockTokens)) {}

  std::function<Result<void>(const StepPlan&)> before_step;  // an error here is the step's error
  std::function<Result<void>()> before_collect;              // the same, where its result is wanted
  std::atomic<int> num_idle_moments{0};                      // left to use

  int depth() const override { return depth_; }
  Result<void> launch(const StepPlan& plan) override {
    EXPECT_LE(launched_.size(), static_cast<size_t>(depth_));
    if (before_step) {
      if (Result<void> ok = before_step(plan); !ok) return forward_error(ok);
    }
    std::vector<FakeLine>& lines = launched_.emplace_back();
    for (const PlanLine& line : plan.lines) lines.push_back(copy_of(line));
    if (depth_ == 0) results_.push_back(run(lines));
    return {};
  }
  Result<StepResult> collect() override {
    if (before_collect) {
      if (Result<void> ok = before_collect(); !ok) return forward_error(ok);
    }
    if (depth_ > 0) results_.push_back(run(launched_.front()));
    launched_.pop_front();
    StepResult result = std::move(results_.front());
    results_.pop_front();
    return result;
  }
  bool use_idle_moment() override {
    if (num_idle_moments == 0) return false;
    --num_idle_moments;
    return true;
  }

 private:
  static FakeLine copy_of(const PlanLine& line) {
    const Sequence& sequence = *line.sequence;
    FakeLine copy;
    copy.begin = line.begin;
    copy.slot = sequence.slot;
    EXPECT_GE(copy.slot, 0);
    copy.tokens = sequence.tokens;
    if (line.from_last_step) {
      EXPECT_EQ(line.num_tokens, 1);
      EXPECT_EQ(static_cast<size_t>(line.begin), copy.tokens.size());
      copy.tokens.push_back(-1);
    }
    copy.tokens.resize(static_cast<size_t>(line.end()));
    copy.blocks.assign(sequence.blocks.ids().begin(), sequence.blocks.ids().end());
    copy.samples = line.samples;
    copy.sampling = sequence.sampling();
    copy.seed = sequence.seed();
    copy.num_prompt = sequence.num_prompt();
    copy.wants_prompt_logprobs = sequence.wants_prompt_logprobs();
    copy.prompt = sequence.request.request.prompt;
    return copy;
  }

  StepResult run(std::vector<FakeLine>& lines) {
    StepResult result;
    result.prompt_logprobs.resize(lines.size());
    for (FakeLine& line : lines) {
      if (line.tokens.back() >= 0) continue;
      const auto last = last_tokens_.find(line.slot);
      EXPECT_NE(last, last_tokens_.end()) << "nothing was drawn for slot " << line.slot;
      if (last != last_tokens_.end()) line.tokens.back() = last->second;
    }
    for (size_t i = 0; i < lines.size(); ++i) run_line(lines[i], result, result.prompt_logprobs[i]);
    return result;
  }

  void run_line(const FakeLine& line, StepResult& result,
                std::vector<PositionLogprobs>& prompt_logprobs) {
    uint64_t hash = 1;
    const int end = static_cast<int>(line.tokens.size());
    for (int position = 0; position < end; ++position) {
      hash = fake_hash(hash, static_cast<uint64_t>(line.tokens[static_cast<size_t>(position)]));
      uint64_t& place = kv_[static_cast<size_t>(
          line.blocks[static_cast<size_t>(position / kv::kBlockTokens)] * kv::kBlockTokens +
          position % kv::kBlockTokens)];
      if (position < line.begin) {
        EXPECT_EQ(place, hash) << "position " << position << " of " << end << " was overwritten";
        continue;
      }
      place = hash;
      if (line.wants_prompt_logprobs && position + 1 < line.num_prompt) {
        prompt_logprobs.push_back(
            {{line.prompt[static_cast<size_t>(position) + 1], -static_cast<float>(position), 1}});
      }
    }
    if (line.samples) {
      const int32_t token = fake_token(line.sampling, line.seed, hash, end - line.num_prompt);
      result.sampled.push_back({token, {{token, -1.0f, 1}}});
      last_tokens_[line.slot] = token;
    }
  }

  const int depth_;
  std::vector<uint64_t> kv_;  // a hash per token slot
  std::map<int, int32_t> last_tokens_;
  std::deque<std::vector<FakeLine>> launched_;
  std::deque<StepResult> results_;
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
