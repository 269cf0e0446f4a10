// Logprobs and ranks against a full sort.
#include "engine/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace donar::engine {
namespace {

TEST(Logprobs, equal_a_sorted_log_softmax_with_ties_to_the_lowest_id) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    SCOPED_TRACE(trial);
    const size_t size = 25 + random() % 200, num_tokens = size - random() % 5;
    std::vector<float> logits(size);
    for (float& logit : logits)
      logit = std::round(std::normal_distribution<float>(0, 4)(random) * 2.0f) / 2.0f;
    const auto chosen = static_cast<int32_t>(random() % num_tokens);
    const int num_best = static_cast<int>(random() % 21);

    double sum = 0.0;
    for (float logit : logits) sum += std::exp(static_cast<double>(logit));
    std::vector<int32_t> ids(num_tokens);
    std::iota(ids.begin(), ids.end(), 0);
    std::ranges::stable_sort(ids, [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });

    const PositionLogprobs got =
        position_logprobs(logits, static_cast<int64_t>(num_tokens), chosen, num_best);
    ASSERT_EQ(got.size(), static_cast<size_t>(num_best) + 1);
    const auto expect_logprob = [&](const TokenLogprob& entry) {
      EXPECT_NEAR(entry.logprob,
                  static_cast<double>(logits[static_cast<size_t>(entry.token)]) - std::log(sum),
                  2e-6 * 20);
    };
    EXPECT_EQ(got[0].token, chosen);
    expect_logprob(got[0]);
    EXPECT_EQ(got[0].rank, std::ranges::count_if(ids, [&](int32_t id) {
                return logits[static_cast<size_t>(id)] >= logits[static_cast<size_t>(chosen)];
              }));
    for (int i = 0; i < num_best; ++i) {
      EXPECT_EQ(got[static_cast<size_t>(i) + 1].token, ids[static_cast<size_t>(i)]);
      EXPECT_EQ(got[static_cast<size_t>(i) + 1].rank, i + 1);
      expect_logprob(got[static_cast<size_t>(i) + 1]);
    }
  }
}

TEST(Logprobs, huge_logits_do_not_overflow_and_banned_ones_do_not_count) {
  const std::vector<float> logits{1000.0f, 1000.0f, -std::numeric_limits<float>::infinity(),
                                  900.0f};
  EXPECT_NEAR(log_sum_exp(logits), 1000.0 + std::log(2.0), 1e-6);
  const PositionLogprobs got = position_logprobs(logits, 4, 1, 1);
  EXPECT_NEAR(got[0].logprob, -std::log(2.0), 1e-6);
  EXPECT_EQ(got[0].rank, 2);
  EXPECT_EQ(got[1].token, 0);
}

TEST(Logprobs, a_row_shorter_than_what_is_asked_for_gives_what_there_is) {
  EXPECT_EQ(position_logprobs(std::vector<float>{1, 2, 3}, 3, 0, 20).size(), 4u);
}

}  // namespace
}  // namespace donar::engine
