// From rows of logits to tokens and logprobs: the order of the rules, and rows spread over threads.
// The rules are in sampling_rules, the draw in draw, the logprobs in logprobs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/sequence.h"
#include "engine/step_runner.h"
#include "tensor/buffer.h"

namespace donar::engine {

// What one row of logits is wanted for.
struct HeadRow {
  Sequence* sequence = nullptr;
  int prompt_token =
      -1;  // position of the prompt token whose logprobs are wanted; -1: a token is drawn
};

// Engine thread only.
class Sampler {
 public:
  // vocab_size: columns of the logits; num_tokens <= vocab_size: ids that may be drawn or listed.
  static Result<Sampler> create(MemoryLedger& ledger, int64_t vocab_size, int64_t num_tokens,
                                std::vector<int32_t> eos_tokens, int num_threads);

  // Row i of `logits` belongs to rows[i]; the result goes to out[i] (for prompt rows: its
  // logprobs). Overwrites the logits.
  void run(ThreadPool& pool, std::span<float> logits,  // [rows, vocab_size]
           std::span<const HeadRow> rows, std::span<SampledToken> out) const;

 private:
  struct Scratch {
    std::span<int32_t> ids;       // [num_tokens] candidates of a draw
    std::span<float> raw_logits;  // [vocab_size] as they were before the rules
  };
  Sampler() = default;
  SampledToken sample(std::span<float> logits, Sequence& sequence, const Scratch& scratch) const;
  SampledToken prompt_logprobs(std::span<float> logits, const HeadRow& row) const;

  int64_t vocab_size_ = 0;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> eos_tokens_;
  int num_threads_ = 1;
  Buffer ids_;         // [threads, num_tokens] i32
  Buffer raw_logits_;  // [threads, vocab_size] f32
};

}  // namespace donar::engine
