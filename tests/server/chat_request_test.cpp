// What chat requests may say: fields that reach the engine, and fields that are refused with a
// reason.
#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kHi = R"("messages":[{"role":"user","content":"Hi"}])";

std::string chat(const std::string& more = {}) { return std::string("{") + kHi + more + "}"; }

class ChatRequests : public ServerTest {};

TEST_F(ChatRequests, bad_requests_say_what_is_wrong) {
  start_ready();
  const auto refused = [&](const std::string& more, const std::string& word) {
    const std::string message = post_error(kChat, chat(more), 400);
    EXPECT_NE(message.find(word), std::string::npos) << more << " -> " << message;
  };
  refused(R"(,"temperature":-1)", "temperature must be non-negative, got -1");
  refused(R"(,"temperature":"hot")", "temperature must be a finite number");
  refused(R"(,"top_p":0)", "top_p must be in (0, 1]");
  refused(R"(,"top_k":-2)", "top_k must be 0 (disable), or at least 1");
  refused(R"(,"min_p":1.5)", "min_p must be in [0, 1]");
  refused(R"(,"presence_penalty":2.5)", "presence_penalty must be in [-2, 2]");
  refused(R"(,"repetition_penalty":0)", "greater than zero");
  refused(R"(,"n":0)", "n must be at least 1");
  refused(R"(,"n":1.5)", "n must be an integer");
  refused(R"(,"max_tokens":0)", "max_tokens must be at least 1");
  refused(R"(,"max_tokens":5000)", "'max_tokens' or 'max_completion_tokens' is too large: 5000");
  refused(R"(,"min_tokens":9,"max_tokens":3)",
          "min_tokens must be less than or equal to max_tokens=3");
  refused(R"(,"top_logprobs":3)", "`logprobs` must be set to true");
  refused(R"(,"logprobs":true,"top_logprobs":21)", "greater than max allowed: 20");
  refused(R"(,"prompt_logprobs":1,"stream":true)", "not available when `stream=True`");
  refused(R"(,"stop":[""])", "stop cannot contain an empty string");
  refused(R"(,"stream_options":{"include_usage":true})", "only be defined when `stream=True`");
  refused(R"(,"logit_bias":{"x":1})", "logit_bias must map token ids to numbers");
  refused(R"(,"logit_bias":{"99999":1})", "vocabulary ends at");
  refused(R"(,"allowed_token_ids":[])", "allowed_token_ids must not be empty");
  refused(R"(,"allowed_token_ids":[-1])", "list of token ids");
  refused(R"(,"cache_salt":"")", "non-empty string");
  refused(R"(,"priority":1)", "priority scheduling is not enabled");
  refused(R"(,"use_beam_search":true)", "use_beam_search is not supported");
  refused(R"(,"response_format":{"type":"json_object"})", "not supported");
  refused(R"(,"structured_outputs":{"regex":"a"})", "not supported");
  refused(R"(,"guided_json":{"type":"object"})", "not supported");
  refused(R"(,"tool_choice":"required")", "not supported yet");
  refused(R"(,"tool_choice":{"type":"function","function":{"name":"f"}})", "not supported yet");
  refused(R"(,"logits_processors":["x"])", "not supported");
  refused(R"(,"chat_template":"{{ 1 }}")", "--chat-template");
  refused(R"(,"continue_final_message":true)", "Cannot set both");
  refused(R"(,"tools":[{"type":"function"}])", "every tool must look like");
  refused(R"(,"truncate_prompt_tokens":5000)", "greater than max_model_len");
  refused(R"(,"modalities":["audio"])", "only modality");
  EXPECT_NE(post_error(kChat, "{}", 400).find("messages is required"), std::string::npos);
  EXPECT_NE(post_error(kChat, R"({"messages":[]})", 400).find("at least one"), std::string::npos);
  EXPECT_NE(post_error(kChat, R"({"messages":[{"content":"x"}]})", 400).find("role"),
            std::string::npos);
  EXPECT_NE(
      post_error(
          kChat,
          R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})",
          400)
          .find("image_url"),
      std::string::npos);
  EXPECT_NE(post_error(kChat, "[]", 400).find("must be a JSON object"), std::string::npos);
  EXPECT_NE(post_error(kChat, "{\"messages\":", 400).find("malformed JSON"), std::string::npos);
  EXPECT_NE(post_error(kChat, chat(R"(,"model":"other")"), 404).find("`other` does not exist"),
            std::string::npos);
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += "[";
  post_error(kChat, deep, 413);
  EXPECT_EQ(engine_.submitted, 0);
}

TEST_F(ChatRequests, null_is_absent_and_unknown_fields_are_accepted) {
  start_ready();
  const json::value reply = post_ok(
      kChat,
      chat(
          R"(,"temperature":null,"stop":null,"n":null,"tools":null,"stream_options":null,"response_format":null,)"
          R"("logit_bias":null,"seed":null,"brand_new_field":{"a":1},"user":"u","metadata":{},"store":false,)"
          R"("no_stop_trim":true,"separate_reasoning":true,"stream_reasoning":true,"return_hidden_states":true,)"
          R"("include_reasoning":true,"response_format":{"type":"text"},"parallel_tool_calls":true,"model":"org/tiny-alias")"));
  EXPECT_EQ(reply.at("model"), "tiny");
  EXPECT_EQ(engine_.last_request().sampling.temperature, 1.0f);
}

TEST_F(ChatRequests, sampling_fields_reach_the_engine) {
  start_ready();
  post_ok(
      kChat,
      chat(
          R"(,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"repetition_penalty":1.1,)"
          R"("presence_penalty":0.2,"frequency_penalty":-0.3,"seed":42,"min_tokens":2,"ignore_eos":true,)"
          R"("logit_bias":{"5":200,"6":-1.5},"allowed_token_ids":[1,2,3],"bad_words":["ab"],"cache_salt":"s")"));
  const engine::Request seen = engine_.last_request();
  EXPECT_FLOAT_EQ(seen.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(seen.sampling.top_p, 0.9f);
  EXPECT_EQ(seen.sampling.top_k, 40);
  EXPECT_FLOAT_EQ(seen.sampling.min_p, 0.1f);
  EXPECT_FLOAT_EQ(seen.sampling.repetition_penalty, 1.1f);
  EXPECT_FLOAT_EQ(seen.sampling.presence_penalty, 0.2f);
  EXPECT_FLOAT_EQ(seen.sampling.frequency_penalty, -0.3f);
  EXPECT_EQ(seen.sampling.seed, 42u);
  EXPECT_EQ(seen.sampling.min_tokens, 2);
  EXPECT_TRUE(seen.sampling.ignore_eos);
  ASSERT_EQ(seen.sampling.logit_bias.size(), 2u);
  EXPECT_EQ(seen.sampling.logit_bias[0].bias, 100.0f);  // clamped
  EXPECT_EQ(seen.sampling.allowed_tokens, (std::vector<int32_t>{1, 2, 3}));
  ASSERT_FALSE(seen.sampling.bad_words.empty());
  EXPECT_EQ(seen.sampling.bad_words[0], bytes_of("ab"));
  EXPECT_NE(seen.cache_salt, 0u);
  post_ok(kChat, chat(R"(,"cache_salt":"t","top_k":-1,"seed":-1)"));
  EXPECT_NE(engine_.last_request().cache_salt, seen.cache_salt);
  EXPECT_EQ(engine_.last_request().sampling.top_k, 0);
  EXPECT_FALSE(engine_.last_request().sampling.seed.has_value());
}

TEST_F(ChatRequests, the_models_generation_config_gives_defaults) {
  start(default_config());
  answer_with("Hello");
  ServedModel model = served_model();
  model.generation_config =
      json::object{{"temperature", 0.6}, {"top_k", 20}, {"max_new_tokens", 4}, {"top_p", nullptr}};
  server_->set_model(std::move(model));
  post_ok(kChat, chat());
  EXPECT_FLOAT_EQ(engine_.last_request().sampling.temperature, 0.6f);
  EXPECT_EQ(engine_.last_request().sampling.top_k, 20);
  EXPECT_EQ(engine_.last_request().max_tokens, 4);
  post_ok(kChat, chat(R"(,"temperature":0,"top_k":0,"max_tokens":100)"));
  EXPECT_EQ(engine_.last_request().sampling.temperature, 0.0f);
  EXPECT_EQ(engine_.last_request().sampling.top_k, 0);
  EXPECT_EQ(engine_.last_request().max_tokens, 4);  // a limit of the whole server, as in vLLM
}

TEST_F(ChatRequests, a_prompt_that_is_too_long_names_the_numbers) {
  start_ready();
  engine_.context = 20;
  const std::string message =
      post_error(kChat, R"({"messages":[{"role":"user","content":"a long enough message"}]})", 400);
  EXPECT_NE(message.find("maximum context length is 20 tokens"), std::string::npos);
  EXPECT_NE(message.find("input tokens"), std::string::npos);
  post_ok(
      kChat,
      R"({"messages":[{"role":"user","content":"a long enough message"}],"truncate_prompt_tokens":5})");
  EXPECT_EQ(engine_.last_request().prompt.size(), 5u);
}

TEST_F(ChatRequests, without_a_template_the_error_says_how_to_give_one) {
  start(default_config());
  server_->set_model(served_model(nullptr));
  EXPECT_NE(post_error(kChat, chat(), 400).find("--chat-template"), std::string::npos);
}

TEST_F(ChatRequests, a_template_that_raises_is_400) {
  start(default_config());
  server_->set_model(served_model("{{ raise_exception('roles must alternate') }}"));
  EXPECT_NE(post_error(kChat, chat(), 400).find("roles must alternate"), std::string::npos);
}

TEST_F(ChatRequests, a_body_must_be_declared_as_json) {
  start_ready();
  EXPECT_EQ(request("POST", kChat, chat(), {{"Content-Type", "text/plain"}}).status, 400);
  EXPECT_EQ(
      request("POST", kChat, chat(), {{"Content-Type", "application/json; charset=utf-8"}}).status,
      200);
}

}  // namespace
}  // namespace donar::server::testing
