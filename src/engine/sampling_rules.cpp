// See sampling_rules.h. Only keep_allowed_tokens touches the whole row.
#include "engine/sampling_rules.h"

#include <algorithm>
#include <limits>

namespace donar::engine {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

bool is_in(std::span<const float> logits, int32_t token) {
  return token >= 0 && static_cast<size_t>(token) < logits.size();
}

void ban(std::span<float> logits, int32_t token) {
  if (is_in(logits, token)) logits[static_cast<size_t>(token)] = kBanned;
}

// In rising order.
void sort_unique(std::vector<int32_t>& tokens) {
  std::ranges::sort(tokens);
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
}

}  // namespace

void merge_duplicates(SamplingParams& params) {
  sort_unique(params.allowed_tokens);
  sort_unique(params.stop_tokens);
  std::vector<LogitBias>& bias = params.logit_bias;
  std::ranges::stable_sort(bias, {}, &LogitBias::token);
  size_t size = 0;
  for (const LogitBias& entry : bias) {
    if (size > 0 && bias[size - 1].token == entry.token) {
      bias[size - 1].bias += entry.bias;
    } else {
      bias[size++] = entry;
    }
  }
  bias.resize(size);
}

void keep_allowed_tokens(std::span<float> logits, std::span<const int32_t> allowed) {
  std::vector<float> kept;
  kept.reserve(allowed.size());
  for (int32_t token : allowed)
    kept.push_back(is_in(logits, token) ? logits[static_cast<size_t>(token)] : kBanned);
  std::ranges::fill(logits, kBanned);
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (is_in(logits, allowed[i])) logits[static_cast<size_t>(allowed[i])] = kept[i];
  }
}

void apply_min_tokens(std::span<float> logits, const SamplingParams& params, int64_t num_output,
                      std::span<const int32_t> eos_tokens) {
  if (num_output >= params.min_tokens) return;
  for (int32_t token : eos_tokens) ban(logits, token);
  for (int32_t token : params.stop_tokens) ban(logits, token);
}

void apply_bad_words(std::span<float> logits, const std::vector<std::vector<int32_t>>& bad_words,
                     std::span<const int32_t> output) {
  for (const std::vector<int32_t>& word : bad_words) {
    const size_t num_before = word.size() - 1;
    if (num_before <= output.size() &&
        std::ranges::equal(output.last(num_before), std::span(word).first(num_before))) {
      ban(logits, word.back());
    }
  }
}

void apply_logit_bias(std::span<float> logits, std::span<const LogitBias> bias) {
  for (const LogitBias& entry : bias) {
    if (!is_in(logits, entry.token)) continue;
    float& logit = logits[static_cast<size_t>(entry.token)];
    if (logit != kBanned) logit += entry.bias;  // a ban is stronger than an infinite bias
  }
}

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

void apply_penalties(std::span<float> logits, const SamplingParams& params,
                     const TokenCounts& counts) {
  for (const TokenCounts::Entry& entry : counts.entries()) {
    if (!is_in(logits, entry.token)) continue;
    float& logit = logits[static_cast<size_t>(entry.token)];
    logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (entry.num_output > 0) {
      logit -= params.frequency_penalty * static_cast<float>(entry.num_output);
      logit -= params.presence_penalty;
    }
  }
}

}  // namespace donar::engine
