// What the device's sampler is told of a step: one SampleRow per position that is drawn or scored,
// and the lists that rows point into. The rules themselves are those of sampling_rules.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "engine/step_plan.h"
#include "ops/sample_tokens.h"

namespace donar::engine {

// Rows whose logits are computed and sampled together. The begins in its rows count from the
// beginning of its own lists.
struct SampleSlice {
  int64_t begin = 0;  // first row
  int64_t count = 0;
  ops::SampleNeeds needs;
  size_t bias_begin = 0, num_bias = 0;  // in the lists of the step
  size_t bans_begin = 0, num_bans = 0;
  size_t allowed_begin = 0, num_allowed = 0;

  size_t list_bytes() const {
    return num_bias * sizeof(ops::TokenBias) + num_bans * sizeof(ops::TokenBan) +
           num_allowed * sizeof(int32_t);
  }
};

struct SampleRowLimits {
  int64_t vocab_size = 0;
  int64_t max_slice_rows = 0;
  std::vector<int32_t> eos_tokens;

  // Entries of a slice's lists. One row always fits: submit has merged duplicates.
  size_t max_bias() const { return static_cast<size_t>(vocab_size); }
  size_t max_bans() const;
  size_t max_allowed() const { return static_cast<size_t>(vocab_size); }
  size_t max_list_bytes() const;
};

// Engine thread only.
class SampleRows {
 public:
  explicit SampleRows(SampleRowLimits limits) : limits_(std::move(limits)) {}

  void clear();
  // The token that a sampling line draws.
  void add_draw(const PlanLine& line);
  // Logprobs of the prompt token at `position`, from the row before it.
  void add_prompt_logprobs(const Sequence& sequence, int position);

  std::span<const ops::SampleRow> rows() const { return rows_; }
  std::span<const SampleSlice> slices() const { return slices_; }
  std::span<const ops::TokenBias> bias() const { return bias_; }
  std::span<const ops::TokenBan> bans() const { return bans_; }
  std::span<const int32_t> allowed() const { return allowed_; }
  int32_t num_logprobs() const { return num_logprobs_; }

 private:
  void add_bans(const PlanLine& line, const Sequence& sequence);
  void add_bad_words(const PlanLine& line, const Sequence& sequence);
  void add(ops::SampleRow row, size_t bias_begin, size_t bans_begin, size_t allowed_begin);

  const SampleRowLimits limits_;
  std::vector<ops::SampleRow> rows_;
  std::vector<SampleSlice> slices_;
  std::vector<ops::TokenBias> bias_;
  std::vector<ops::TokenBan> bans_;
  std::vector<int32_t> allowed_;
  int32_t num_logprobs_ = 0;
};

}  // namespace donar::engine
