// Every field out of range is refused with its name; everything at the edge is accepted.
#include "engine/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace donar::engine {
namespace {

Request valid() {
  Request request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 10;
  return request;
}

const RequestLimits kLimits{13, 100};

void expect_refused(const char* param, const std::function<void(Request&)>& change) {
  Request request = valid();
  change(request);
  const Result<void> result = validate_request(request, kLimits);
  ASSERT_FALSE(result.has_value()) << param;
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().param, param) << result.error().message;
  EXPECT_FALSE(result.error().message.empty());
}

TEST(Validate, the_edges_are_accepted) {
  Request request = valid();
  request.sampling.temperature = 0.0f;
  request.sampling.top_p = 1.0f;
  request.sampling.min_p = 1.0f;
  request.sampling.presence_penalty = -2.0f;
  request.sampling.frequency_penalty = 2.0f;
  request.sampling.min_tokens = 10;
  request.sampling.num_logprobs = 20;
  request.sampling.num_prompt_logprobs = 0;
  request.sampling.logit_bias = {{99, -std::numeric_limits<float>::infinity()}};
  request.num_choices = kMaxChoices;
  EXPECT_TRUE(validate_request(request, kLimits).has_value());
  request.max_tokens = request.sampling.min_tokens = 0;
  EXPECT_TRUE(validate_request(request, kLimits).has_value());
  request.prompt = {100000};
  EXPECT_TRUE(validate_request(request, {13, 0}).has_value());  // vocabulary unknown
}

TEST(Validate, everything_out_of_range_names_its_field) {
  const float nan = std::nanf("");
  expect_refused("prompt", [](Request& r) { r.prompt.clear(); });
  expect_refused("prompt", [](Request& r) { r.prompt[1] = 100; });
  expect_refused("prompt", [](Request& r) { r.prompt[1] = -1; });
  expect_refused("prompt", [](Request& r) { r.prompt.assign(13, 1); });
  expect_refused("max_tokens", [](Request& r) { r.max_tokens = 11; });
  expect_refused("max_tokens", [](Request& r) { r.max_tokens = std::numeric_limits<int>::max(); });
  expect_refused("max_tokens", [](Request& r) { r.max_tokens = -1; });
  expect_refused("n", [](Request& r) { r.num_choices = 0; });
  expect_refused("n", [](Request& r) { r.num_choices = kMaxChoices + 1; });
  expect_refused("temperature", [](Request& r) { r.sampling.temperature = -0.1f; });
  expect_refused("temperature", [&](Request& r) { r.sampling.temperature = nan; });
  expect_refused("top_p", [](Request& r) { r.sampling.top_p = 0.0f; });
  expect_refused("top_p", [](Request& r) { r.sampling.top_p = 1.1f; });
  expect_refused("top_k", [](Request& r) { r.sampling.top_k = -2; });
  expect_refused("min_p", [](Request& r) { r.sampling.min_p = 1.5f; });
  expect_refused("repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 0.0f; });
  expect_refused("presence_penalty", [](Request& r) { r.sampling.presence_penalty = 2.5f; });
  expect_refused("frequency_penalty", [&](Request& r) { r.sampling.frequency_penalty = nan; });
  expect_refused("logit_bias", [](Request& r) { r.sampling.logit_bias = {{100, 1.0f}}; });
  expect_refused("logit_bias", [&](Request& r) { r.sampling.logit_bias = {{1, nan}}; });
  expect_refused("allowed_token_ids", [](Request& r) { r.sampling.allowed_tokens = {-5}; });
  expect_refused("bad_words", [](Request& r) { r.sampling.bad_words = {{}}; });
  expect_refused("min_tokens", [](Request& r) { r.sampling.min_tokens = 11; });
  expect_refused("logprobs", [](Request& r) { r.sampling.num_logprobs = 21; });
  expect_refused("prompt_logprobs", [](Request& r) { r.sampling.num_prompt_logprobs = -2; });
}

}  // namespace
}  // namespace donar::engine
