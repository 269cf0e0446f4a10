// See sample_rows.h. A step of plain requests touches no list.
#include "engine/sample_rows.h"

#include <algorithm>

#include "base/check.h"
#include "engine/sampling_rules.h"
#include "engine/validate.h"

namespace donar::engine {

size_t SampleRowLimits::max_bans() const {
  return static_cast<size_t>(vocab_size) + eos_tokens.size() + kMaxBadWords;
}

size_t SampleRowLimits::max_list_bytes() const {
  return max_bias() * sizeof(ops::TokenBias) + max_bans() * sizeof(ops::TokenBan) +
         max_allowed() * sizeof(int32_t);
}

void SampleRows::clear() {
  rows_.clear();
  slices_.clear();
  bias_.clear();
  bans_.clear();
  allowed_.clear();
  num_logprobs_ = 0;
}

void SampleRows::add_draw(const PlanLine& line) {
  const Sequence& sequence = *line.sequence;
  const SamplingParams& params = sequence.sampling();
  const size_t bias_begin = bias_.size(), bans_begin = bans_.size(),
               allowed_begin = allowed_.size();
  ops::SampleRow row;
  row.kind = ops::SampleKind::kDraw;
  row.slot = sequence.slot;
  row.seed = sequence.seed();
  row.position = static_cast<uint64_t>(line.end());
  row.temperature = params.temperature;
  row.top_p = params.top_p;
  if (params.min_p > 0.0f) row.min_p_distance = ops::min_p_distance(params.min_p);
  row.top_k = params.top_k;
  if (has_penalties(params)) {
    row.counts_slot = sequence.slot;
    row.repetition_penalty = params.repetition_penalty;
    row.presence_penalty = params.presence_penalty;
    row.frequency_penalty = params.frequency_penalty;
  }
  row.num_logprobs = params.num_logprobs;
  for (const LogitBias& bias : params.logit_bias) bias_.push_back({bias.token, bias.bias});
  add_bans(line, sequence);
  allowed_.insert(allowed_.end(), params.allowed_tokens.begin(), params.allowed_tokens.end());
  add(row, bias_begin, bans_begin, allowed_begin);
}

void SampleRows::add_prompt_logprobs(const Sequence& sequence, int position) {
  ops::SampleRow row;
  row.kind = ops::SampleKind::kPromptLogprobs;
  row.target = sequence.tokens[static_cast<size_t>(position)];
  row.num_logprobs = sequence.sampling().num_prompt_logprobs;
  add(row, bias_.size(), bans_.size(), allowed_.size());
}

void SampleRows::add_bans(const PlanLine& line, const Sequence& sequence) {
  const SamplingParams& params = sequence.sampling();
  if (line.end() - sequence.num_prompt() < params.min_tokens) {
    for (int32_t token : limits_.eos_tokens) bans_.push_back({token, -1});
    for (int32_t token : params.stop_tokens) bans_.push_back({token, -1});
  }
  if (!params.bad_words.empty()) add_bad_words(line, sequence);
}

// With a token in flight the host compares what comes before it, and the device that one.
void SampleRows::add_bad_words(const PlanLine& line, const Sequence& sequence) {
  const std::span<const int32_t> known =
      std::span(sequence.tokens).subspan(static_cast<size_t>(sequence.num_prompt()));
  for (const std::vector<int32_t>& word : sequence.sampling().bad_words) {
    const std::span<const int32_t> before = std::span(word).first(word.size() - 1);
    const bool ends_in_flight = line.from_last_step && !before.empty();
    const std::span<const int32_t> compared =
        ends_in_flight ? before.first(before.size() - 1) : before;
    if (compared.size() > known.size() ||
        !std::ranges::equal(known.last(compared.size()), compared)) {
      continue;
    }
    bans_.push_back({word.back(), ends_in_flight ? before.back() : -1});
  }
}

void SampleRows::add(ops::SampleRow row, size_t bias_begin, size_t bans_begin,
                     size_t allowed_begin) {
  if (row.num_logprobs >= 0) row.logprobs_index = num_logprobs_++;
  const auto fits = [&](const SampleSlice& slice) {
    return slice.count < limits_.max_slice_rows &&
           bias_.size() - slice.bias_begin <= limits_.max_bias() &&
           bans_.size() - slice.bans_begin <= limits_.max_bans() &&
           allowed_.size() - slice.allowed_begin <= limits_.max_allowed();
  };
  if (slices_.empty() || !fits(slices_.back())) {
    SampleSlice& slice = slices_.emplace_back();
    slice.begin = static_cast<int64_t>(rows_.size());
    slice.bias_begin = bias_begin;
    slice.bans_begin = bans_begin;
    slice.allowed_begin = allowed_begin;
    DONAR_CHECK(fits(slice), "a row with {} biases, {} bans and {} allowed tokens",
                bias_.size() - bias_begin, bans_.size() - bans_begin,
                allowed_.size() - allowed_begin);
  }
  SampleSlice& slice = slices_.back();
  row.bias_begin = static_cast<int32_t>(bias_begin - slice.bias_begin);
  row.num_bias = static_cast<int32_t>(bias_.size() - bias_begin);
  row.bans_begin = static_cast<int32_t>(bans_begin - slice.bans_begin);
  row.num_bans = static_cast<int32_t>(bans_.size() - bans_begin);
  row.allowed_begin = static_cast<int32_t>(allowed_begin - slice.allowed_begin);
  row.num_allowed = static_cast<int32_t>(allowed_.size() - allowed_begin);
  rows_.push_back(row);

  ++slice.count;
  slice.num_bias = bias_.size() - slice.bias_begin;
  slice.num_bans = bans_.size() - slice.bans_begin;
  slice.num_allowed = allowed_.size() - slice.allowed_begin;
  const ops::SampleNeeds needs = ops::sample_needs({&row, 1});
  slice.needs.rules |= needs.rules;
  slice.needs.draws |= needs.draws;
  slice.needs.logprobs |= needs.logprobs;
}

}  // namespace donar::engine
