// The check that a row does not depend on its batch, for the runners of both devices.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/model/runner.h"

namespace donar::model::test {

// Four prompts each alone, then together in steps of mixed lengths: the same bits.
template <class AnyRunner>
void expect_batched_equals_alone(AnyRunner& runner,
                                 const std::vector<std::vector<int32_t>>& prompts) {
  std::vector<std::vector<std::vector<float>>> alone;
  for (size_t s = 0; s < prompts.size(); ++s)
    alone.push_back(runner.run(prompts[s], prompts[s].size(), static_cast<int>(s)));

  // All four at once, in another order, first without their last two tokens; then decoding rows
  // beside each other.
  const std::vector<int> order{2, 0, 3, 1};
  for (int s : order) runner.restart(s);
  const auto check = [&](size_t begin_from_end, size_t end_from_end) {
    std::vector<StepRows> step;
    for (const int s : order) {
      const auto& prompt = prompts[static_cast<size_t>(s)];
      const auto begin =
          prompt.end() - static_cast<int64_t>(std::min(begin_from_end, prompt.size()));
      step.push_back({s, {begin, prompt.end() - static_cast<int64_t>(end_from_end)}});
    }
    const auto logits = runner.step(step);
    size_t row = 0;
    for (const StepRows& rows : step) {
      const auto& wanted = alone[static_cast<size_t>(rows.sequence)];
      const size_t first = wanted.size() - end_from_end - rows.tokens.size();
      for (size_t i = 0; i < rows.tokens.size(); ++i)
        EXPECT_EQ(logits[row++], wanted[first + i])
            << "sequence " << rows.sequence << ", token " << first + i;
    }
  };
  check(1000, 2);
  check(2, 1);
  check(1, 0);
}

}  // namespace donar::model::test
