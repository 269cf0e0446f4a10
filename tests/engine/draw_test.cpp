// Draws against a naive reference that sorts the whole row in double precision, and against the
// distribution that they claim.
#include "engine/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "engine/philox.h"
#include "engine/row_math.h"

namespace donar::engine {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

struct Reference {
  std::vector<int32_t> kept;          // in falling order of logit, ties by id
  std::vector<double> probabilities;  // of kept, renormalised
  double margin = 1.0;                // how far top_p and min_p are from deciding otherwise
};

Reference reference(const std::vector<float>& logits, const SamplingParams& params) {
  Reference result;
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::erase_if(ids, [&](int32_t id) { return logits[static_cast<size_t>(id)] == kBanned; });
  std::ranges::stable_sort(ids, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<double> weights;
  for (int32_t id : ids) {
    weights.push_back(std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) -
                                static_cast<double>(logits[static_cast<size_t>(ids[0])])) /
                               static_cast<double>(params.temperature)));
  }
  size_t count = 0;
  while (count < ids.size() && weights[count] >= static_cast<double>(params.min_p)) ++count;
  if (params.min_p > 0.0f) {
    for (double weight : weights)
      result.margin =
          std::min(result.margin, std::abs(weight / static_cast<double>(params.min_p) - 1.0));
  }
  if (params.top_k > 0) count = std::min(count, static_cast<size_t>(params.top_k));
  const double total =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(count), 0.0);
  if (params.top_p < 1.0f) {
    double sum = 0.0;
    size_t size = 0;
    while (size < count && sum < static_cast<double>(params.top_p) * total) {
      sum += weights[size++];
      result.margin =
          std::min(result.margin, std::abs(sum / total - static_cast<double>(params.top_p)));
    }
    count = size;
  }
  const double kept =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(count), 0.0);
  for (size_t i = 0; i < count; ++i) {
    result.kept.push_back(ids[i]);
    result.probabilities.push_back(weights[i] / kept);
  }
  return result;
}

int32_t draw(const std::vector<float>& logits, const SamplingParams& params, uint64_t random) {
  std::vector<int32_t> scratch(logits.size());
  return draw_token(logits, params, random, scratch);
}

std::vector<float> random_logits(std::mt19937& random, size_t size, bool with_ties) {
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(size);
  for (float& logit : logits) {
    logit = normal(random);
    if (with_ties) logit = std::round(logit * 2.0f) / 2.0f;
    if (random() % 10 == 0) logit = kBanned;
  }
  logits[random() % size] = 4.0f;
  return logits;
}

TEST(Draw, greedy_takes_the_lowest_of_equal_bests) {
  SamplingParams params;
  params.temperature = 0.0f;
  EXPECT_EQ(draw({1.0f, 3.0f, 3.0f, 2.0f}, params, 7), 1);
  params.temperature = 1e-6f;
  EXPECT_EQ(draw({1.0f, 3.0f, 3.0f, 2.0f}, params, 7), 1);
}

// The whole range of `random` is swept in fine steps: exactly the kept tokens come up, as often as
// they should.
TEST(Draw, sweeping_the_random_number_gives_exactly_the_kept_tokens_in_their_shares) {
  std::mt19937 random(1);
  int checked = 0;
  for (int trial = 0; trial < 400; ++trial) {
    SCOPED_TRACE(trial);
    const std::vector<float> logits = random_logits(random, 2 + random() % 60, trial % 2);
    SamplingParams params;
    params.temperature = std::array{0.25f, 0.7f, 1.0f, 1.7f}[random() % 4];
    if (random() % 2) params.top_p = std::uniform_real_distribution<float>(0.05f, 0.999f)(random);
    if (random() % 2) params.top_k = 1 + static_cast<int>(random() % 20);
    if (random() % 3 == 0)
      params.min_p = std::uniform_real_distribution<float>(0.001f, 0.6f)(random);
    const Reference expected = reference(logits, params);
    if (expected.margin < 1e-5) continue;  // either answer is right
    ++checked;
    constexpr int kSteps = 2000;
    std::vector<double> counts(logits.size());
    for (int i = 0; i < kSteps; ++i) {
      const uint64_t position =
          static_cast<uint64_t>((static_cast<double>(i) + 0.5) / kSteps * 0x1p64);
      counts[static_cast<size_t>(draw(logits, params, position))] += 1.0 / kSteps;
    }
    std::vector<double> expected_shares(logits.size());
    for (size_t i = 0; i < expected.kept.size(); ++i) {
      expected_shares[static_cast<size_t>(expected.kept[i])] = expected.probabilities[i];
    }
    for (size_t id = 0; id < logits.size(); ++id) {
      EXPECT_NEAR(counts[id], expected_shares[id], 1.5 / kSteps) << "token " << id;
      if (expected_shares[id] == 0.0) {
        EXPECT_EQ(counts[id], 0.0) << "token " << id << " was not kept";
      }
    }
  }
  EXPECT_GT(checked, 300);
}

TEST(Draw, large_vocabulary_stays_within_the_kept_tokens) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(150001);
  for (float& logit : logits) logit = normal(random);
  for (const auto& [top_k, top_p, min_p] :
       std::vector<std::tuple<int, float, float>>{{50, 1.0f, 0.0f},
                                                  {0, 0.9f, 0.0f},
                                                  {0, 0.05f, 0.0f},
                                                  {1000, 0.5f, 0.0f},
                                                  {0, 1.0f, 0.1f},
                                                  {40000, 1.0f, 0.0f}}) {
    SamplingParams params;
    params.top_k = top_k;
    params.top_p = top_p;
    params.min_p = min_p;
    const Reference expected = reference(logits, params);
    const std::set<int32_t> kept(expected.kept.begin(), expected.kept.end());
    for (uint64_t i = 0; i < 60; ++i) {
      EXPECT_TRUE(kept.contains(draw(logits, params, philox_bits(3, i))))
          << top_k << ' ' << top_p << ' ' << min_p;
    }
    if (top_p == 1.0f) {  // the ends of the range are the first and the last kept token
      EXPECT_EQ(draw(logits, params, 0), expected.kept.front());
      EXPECT_EQ(draw(logits, params, ~uint64_t{0}), expected.kept.back());
    }
  }
}

TEST(Draw, equal_logits_are_kept_from_the_lowest_id) {
  const std::vector<float> logits(100, 1.5f);
  SamplingParams params;
  params.top_k = 3;
  std::set<int32_t> seen;
  for (uint64_t i = 0; i < 200; ++i) seen.insert(draw(logits, params, philox_bits(1, i)));
  EXPECT_EQ(seen, (std::set<int32_t>{0, 1, 2}));
  params.top_k = 0;
  params.top_p = 0.05f;  // just above 5 of 100 in float
  seen.clear();
  for (uint64_t i = 0; i < 400; ++i) seen.insert(draw(logits, params, philox_bits(2, i)));
  EXPECT_LE(*seen.rbegin(), 5);
  EXPECT_EQ(*seen.begin(), 0);
}

TEST(Draw, banned_tokens_never_come_up_and_tiny_temperatures_are_safe) {
  std::vector<float> logits(40, kBanned);
  logits[7] = -50.0f;
  logits[9] = -51.0f;
  SamplingParams params;
  params.temperature = 2.0f;
  for (uint64_t i = 0; i < 100; ++i) {
    const int32_t token = draw(logits, params, philox_bits(1, i));
    EXPECT_TRUE(token == 7 || token == 9) << token;
  }
  params.temperature = 1e-4f;
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(draw(logits, params, philox_bits(2, i)), 7);
  EXPECT_EQ(draw(std::vector<float>(5, kBanned), params, 1), 0);
}

TEST(Draw, temperature_sampling_follows_the_softmax) {
  const std::vector<float> logits{2.0f, 1.0f, 0.0f, 1.0f, -1.0f, 3.0f, 2.5f, -4.0f};
  SamplingParams params;
  params.temperature = 1.3f;
  const Reference expected = reference(logits, params);
  constexpr int kDraws = 200000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<size_t>(draw(logits, params, philox_bits(42, static_cast<uint64_t>(i))))];
  double chi_square = 0.0;
  for (size_t i = 0; i < expected.kept.size(); ++i) {
    const double wanted = expected.probabilities[i] * kDraws;
    const double difference = counts[static_cast<size_t>(expected.kept[i])] - wanted;
    chi_square += difference * difference / wanted;
  }
  EXPECT_LT(chi_square,
            24.3);  // 7 degrees of freedom, 0.1 % level; the draws are fixed by the seed
}

TEST(RowMath, exp_negative_is_close_to_exp_and_exact_at_zero) {
  EXPECT_EQ(exp_negative(0.0f), 1.0f);
  for (float distance = 0.0f; distance < 87.0f; distance += 0.0137f) {
    const double expected = std::exp(-static_cast<double>(distance));
    EXPECT_NEAR(static_cast<double>(exp_negative(distance)) / expected, 1.0, 2.5e-7) << distance;
  }
  EXPECT_LT(exp_negative(std::numeric_limits<float>::infinity()), 1e-37f);
}

TEST(RowMath, argmax_finds_the_lowest_best_at_every_length_and_skips_nan) {
  for (size_t size = 1; size < 70; ++size) {
    for (size_t place = 0; place < size; ++place) {
      std::vector<float> row(size, -2.0f);
      row[place] = -1.0f;
      if (place + 1 < size) row[size - 1] = -1.0f;
      EXPECT_EQ(argmax(row), static_cast<int32_t>(place));
    }
  }
  EXPECT_EQ(argmax(std::vector<float>{std::nanf(""), 1.0f, 2.0f}), 2);
}

}  // namespace
}  // namespace donar::engine
