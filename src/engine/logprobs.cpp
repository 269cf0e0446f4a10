// Two passes for the denominator, one for the rank, one for the best few; no sort of the row.
#include "engine/logprobs.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "engine/row_math.h"
#include "engine/validate.h"

namespace donar::engine {
namespace {

struct Candidate {
  float logit = 0.0f;
  int32_t id = 0;
};

// The best `count` of the row in `best`, in falling order; returns how many there are.
int best_tokens(std::span<const float> row, int count, std::array<Candidate, kMaxLogprobs>& best) {
  int size = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    if (size == count && !(row[i] > best[static_cast<size_t>(count - 1)].logit)) continue;
    if (std::isnan(row[i])) continue;
    // Insert behind equal values: ids come in rising order, so the lower one stays ahead.
    int place = size == count ? count - 1 : size++;
    for (; place > 0 && best[static_cast<size_t>(place - 1)].logit < row[i]; --place) {
      best[static_cast<size_t>(place)] = best[static_cast<size_t>(place - 1)];
    }
    best[static_cast<size_t>(place)] = {row[i], static_cast<int32_t>(i)};
  }
  return size;
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  constexpr size_t kLanes = 8;
  const float max = max_value(logits);
  if (!std::isfinite(max)) return max;
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j)
      lanes[j] += static_cast<double>(exp_negative(max - logits[i + j]));
  }
  double sum = 0.0;
  for (double lane : lanes) sum += lane;
  for (; i < logits.size(); ++i) sum += static_cast<double>(exp_negative(max - logits[i]));
  return static_cast<double>(max) + std::log(sum);
}

PositionLogprobs position_logprobs(std::span<const float> logits, int64_t num_tokens,
                                   int32_t chosen, int num_best) {
  DONAR_CHECK(num_best >= 0 && num_best <= kMaxLogprobs && chosen >= 0 &&
              static_cast<size_t>(chosen) < logits.size());
  const double denominator = log_sum_exp(logits);
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - denominator);
  };
  const std::span<const float> row = logits.first(static_cast<size_t>(num_tokens));

  const float chosen_logit = logits[static_cast<size_t>(chosen)];
  int rank = 0;
  for (float logit : row) rank += logit >= chosen_logit ? 1 : 0;

  PositionLogprobs result;
  result.reserve(static_cast<size_t>(num_best) + 1);
  result.push_back({chosen, logprob(chosen_logit), std::max(rank, 1)});
  if (num_best == 0) return result;
  std::array<Candidate, kMaxLogprobs> best;
  const int size = best_tokens(row, num_best, best);
  for (int i = 0; i < size; ++i) {
    const Candidate& candidate = best[static_cast<size_t>(i)];
    result.push_back({candidate.id, logprob(candidate.logit), i + 1});
  }
  return result;
}

}  // namespace donar::engine
