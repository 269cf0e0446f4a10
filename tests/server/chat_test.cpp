// /v1/chat/completions: replies, streams, logprobs, stops, errors, byte by byte as OpenAI's and
// vLLM's clients read them.
#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kHi = R"("messages":[{"role":"user","content":"Hi"}])";

std::string chat(const std::string& more = {}) { return std::string("{") + kHi + more + "}"; }

class Chat : public ServerTest {};

TEST_F(Chat, a_reply_has_every_field_of_vllm) {
  start_ready();
  engine_.script = [](const engine::Request&) {
    return Script{bytes_of("Hello"), kImEnd, std::nullopt, 7, std::nullopt};
  };
  const json::value reply = post_ok(kChat, chat(R"(,"model":"tiny")"));
  EXPECT_EQ(reply.at("object"), "chat.completion");
  EXPECT_EQ(reply.at("model"), "tiny");
  EXPECT_EQ(std::string_view(reply.at("id").as_string()).substr(0, 9), "chatcmpl-");
  EXPECT_GT(reply.at("created").to_number<int64_t>(), 1'600'000'000);
  const json::value& choice = reply.at("choices").at(0);
  EXPECT_EQ(choice.at("index"), 0);
  EXPECT_EQ(choice.at("message").at("role"), "assistant");
  EXPECT_EQ(choice.at("message").at("content"), "Hello");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  for (const char* name : {"stop_reason", "logprobs", "token_ids"})
    EXPECT_TRUE(choice.at(name).is_null()) << name;
  for (const char* name :
       {"refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content"})
    EXPECT_TRUE(choice.at("message").at(name).is_null()) << name;
  EXPECT_TRUE(choice.at("message").at("tool_calls").as_array().empty());
  for (const char* name :
       {"service_tier", "prompt_logprobs", "prompt_token_ids", "kv_transfer_params"})
    EXPECT_TRUE(reply.at(name).is_null()) << name;
  const int prompt = static_cast<int>(engine_.last_request().prompt.size());
  EXPECT_EQ(reply.at("usage").at("prompt_tokens"), prompt);
  EXPECT_EQ(reply.at("usage").at("completion_tokens"), 6);  // the end token counts
  EXPECT_EQ(reply.at("usage").at("total_tokens"), prompt + 6);
  EXPECT_EQ(reply.at("usage").at("prompt_tokens_details").at("cached_tokens"), 7);
  EXPECT_EQ(reply.at("timings").at("prompt_n"), prompt - 7);
  EXPECT_EQ(reply.at("timings").at("cache_n"), 7);
  EXPECT_EQ(reply.at("timings").at("predicted_n"), 6);
  for (const char* name : {"prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_ms",
                           "predicted_per_token_ms", "predicted_per_second"})
    EXPECT_TRUE(reply.at("timings").at(name).is_double()) << name;
}

TEST_F(Chat, the_prompt_is_the_template_and_max_tokens_is_what_fits) {
  start_ready();
  post_ok(kChat, chat());
  const engine::Request seen = engine_.last_request();
  std::vector<int32_t> expected{kImStart};
  for (const int32_t id : bytes_of("user\nHi")) expected.push_back(id);
  expected.push_back(kImEnd);
  for (const int32_t id : bytes_of("\n")) expected.push_back(id);
  expected.push_back(kImStart);
  for (const int32_t id : bytes_of("assistant\n")) expected.push_back(id);
  EXPECT_EQ(seen.prompt, expected);
  EXPECT_EQ(seen.max_tokens, 1000 - static_cast<int>(expected.size()));
  EXPECT_EQ(seen.num_choices, 1);
}

TEST_F(Chat, a_special_token_in_a_users_text_stays_text) {
  start_ready();
  post_ok(kChat, R"({"messages":[{"role":"user","content":"<|im_end|>"}]})");
  const auto prompt = engine_.last_request().prompt;
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), kImEnd), 1);
}

TEST_F(Chat, a_stream_is_role_text_finish_done) {
  start_ready();
  HttpClient client(port());
  client.send_request("POST", kChat, chat(R"(,"stream":true)"), {{"X-Request-Id", "r1"}});
  const Reply reply = client.receive();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(reply.header("cache-control"), "no-cache");
  EXPECT_EQ(reply.header("transfer-encoding"), "chunked");
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
  const auto events = events_of(reply.body);
  ASSERT_GE(events.size(), 3u);
  for (const json::value& event : events) {
    EXPECT_EQ(event.at("id"), "chatcmpl-r1");
    EXPECT_EQ(event.at("object"), "chat.completion.chunk");
    EXPECT_EQ(event.at("model"), "tiny");
    EXPECT_EQ(event.at("choices").as_array().size(), 1u);
    EXPECT_FALSE(event.as_object().contains("usage"));
  }
  EXPECT_EQ(
      to_json_text(events.front().at("choices").at(0)),
      R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})");
  EXPECT_EQ(to_json_text(events.back().at("choices").at(0)),
            R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null})");
  EXPECT_EQ(streamed_text(events), "Hello");
  EXPECT_EQ(events.back().at("timings").at("predicted_n"), 6);
  // Pooled clients go on with the connection.
  client.send_request("POST", kChat, chat());
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(Chat, the_role_comes_before_the_first_token) {
  start_ready();
  engine_.held = true;
  HttpClient client(port());
  client.send_request("POST", kChat, chat(R"(,"stream":true)"));
  client.receive(/*head_only=*/true);
  const auto chunk = client.receive_chunk();
  ASSERT_TRUE(chunk.has_value());
  EXPECT_NE(chunk->find(R"("role":"assistant")"), std::string::npos);
  engine_.held = false;
}

TEST_F(Chat, the_usage_chunk_has_no_choices_and_the_timings) {
  start_ready();
  const auto events = events_of(
      post(kChat, chat(R"(,"stream":true,"stream_options":{"include_usage":true})")).body);
  EXPECT_TRUE(events.back().at("choices").as_array().empty());
  EXPECT_EQ(events.back().at("usage").at("completion_tokens"), 6);
  EXPECT_EQ(events.back().at("timings").at("predicted_n"), 6);
}

TEST_F(Chat, continuous_usage_is_in_every_chunk) {
  start_ready();
  const auto events = events_of(
      post(
          kChat,
          chat(
              R"(,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})"))
          .body);
  for (const json::value& event : events) EXPECT_TRUE(event.at("usage").is_object());
  EXPECT_EQ(events.front().at("usage").at("completion_tokens"), 0);
}

TEST_F(Chat, usage_can_be_forced) {
  ServerConfig config = default_config();
  config.force_include_usage = true;
  start_ready(config);
  EXPECT_TRUE(
      events_of(post(kChat, chat(R"(,"stream":true)")).body).back().as_object().contains("usage"));
}

TEST_F(Chat, characters_are_never_split) {
  start_ready();
  const std::string text = "Grüße 🎉 日本語";
  answer_with(text);
  engine_.step_ms = 2;  // a chunk per token, as far as may be
  const auto events = events_of(post(kChat, chat(R"(,"stream":true)")).body);
  EXPECT_EQ(streamed_text(events), text);
  for (const json::value& event : events)
    EXPECT_EQ(to_json_text(event).find("\xEF\xBF\xBD"), std::string::npos) << to_json_text(event);
  EXPECT_EQ(post_ok(kChat, chat()).at("choices").at(0).at("message").at("content"),
            json::value(text));
}

TEST_F(Chat, a_stop_string_across_tokens_ends_the_answer_and_the_request) {
  start_ready();
  answer_with("one END two three four five six seven eight nine");
  engine_.step_ms = 1;
  const json::value reply = post_ok(kChat, chat(R"(,"stop":["nothing","END"])"));
  const json::value& choice = reply.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("content"), "one ");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(choice.at("stop_reason"), "END");
  EXPECT_EQ(reply.at("usage").at("completion_tokens"), 7);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.stopped == 1; }));
  EXPECT_EQ(engine_.aborted, 0);
  const auto events = events_of(post(kChat, chat(R"(,"stop":"END","stream":true)")).body);
  EXPECT_EQ(streamed_text(events), "one ");
  EXPECT_EQ(events.back().at("choices").at(0).at("stop_reason"), "END");
}

TEST_F(Chat, a_stop_string_may_stay_and_respects_min_tokens) {
  start_ready();
  answer_with("END and END again");
  EXPECT_EQ(post_ok(kChat, chat(R"(,"stop":"END","include_stop_str_in_output":true)"))
                .at("choices")
                .at(0)
                .at("message")
                .at("content"),
            "END");
  EXPECT_EQ(post_ok(kChat, chat(R"(,"stop":"END","min_tokens":5)"))
                .at("choices")
                .at(0)
                .at("message")
                .at("content"),
            "END and ");
}

TEST_F(Chat, a_stop_token_is_reported_by_id) {
  start_ready();
  engine_.script = [](const engine::Request&) {
    return Script{bytes_of("ab"), 'c', 'c', 0, std::nullopt};
  };
  const json::value reply = post_ok(kChat, chat(R"(,"stop_token_ids":[99])"));
  EXPECT_EQ(reply.at("choices").at(0).at("stop_reason"), 99);
  EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"), "ab");
  EXPECT_EQ(engine_.last_request().sampling.stop_tokens, std::vector<int32_t>{99});
  EXPECT_EQ(post_ok(kChat, chat(R"(,"stop_token_ids":[99],"include_stop_str_in_output":true)"))
                .at("choices")
                .at(0)
                .at("message")
                .at("content"),
            "abc");
}

TEST_F(Chat, special_tokens_are_skipped_or_shown) {
  start_ready();
  engine_.script = [](const engine::Request&) {
    return Script{{'a', kImStart, 'b'}, kImEnd, std::nullopt, 0, std::nullopt};
  };
  EXPECT_EQ(post_ok(kChat, chat()).at("choices").at(0).at("message").at("content"), "ab");
  EXPECT_EQ(post_ok(kChat, chat(R"(,"skip_special_tokens":false)"))
                .at("choices")
                .at(0)
                .at("message")
                .at("content"),
            "a<|im_start|>b");
}

TEST_F(Chat, max_tokens_cuts_with_length) {
  start_ready();
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    const json::value reply = post_ok(kChat, chat(std::string(",\"") + name + "\":3"));
    EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"), "Hel") << name;
    EXPECT_EQ(reply.at("choices").at(0).at("finish_reason"), "length") << name;
  }
}

TEST_F(Chat, n_choices_keep_apart) {
  start_ready();
  const json::value reply = post_ok(kChat, chat(R"(,"n":3)"));
  ASSERT_EQ(reply.at("choices").as_array().size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(reply.at("choices").at(static_cast<size_t>(i)).at("index"), i);
    EXPECT_EQ(reply.at("choices").at(static_cast<size_t>(i)).at("message").at("content"), "Hello");
  }
  EXPECT_EQ(reply.at("usage").at("completion_tokens"), 18);
  const auto events = events_of(post(kChat, chat(R"(,"n":2,"stream":true)")).body);
  EXPECT_EQ(streamed_text(events, 0), "Hello");
  EXPECT_EQ(streamed_text(events, 1), "Hello");
  EXPECT_EQ(engine_.last_request().num_choices, 2);
}

TEST_F(Chat, logprobs_have_token_bytes_and_top) {
  start_ready();
  const json::value reply =
      post_ok(kChat, chat(R"(,"logprobs":true,"top_logprobs":2,"max_tokens":2)"));
  const json::value& content = reply.at("choices").at(0).at("logprobs").at("content");
  ASSERT_EQ(content.as_array().size(), 2u);
  EXPECT_EQ(
      to_json_text(content.at(0)),
      R"({"token":"H","logprob":-0.5,"bytes":[72],"top_logprobs":[)"
      R"({"token":"H","logprob":-0.5,"bytes":[72]},{"token":"I","logprob":-1.5,"bytes":[73]}]})");
  const auto events =
      events_of(post(kChat, chat(R"(,"logprobs":true,"max_tokens":3,"stream":true)")).body);
  size_t count = 0;
  for (const json::value& event : events)
    if (const auto& logprobs = event.at("choices").at(0).at("logprobs"); logprobs.is_object())
      for (const json::value& entry : logprobs.at("content").as_array()) {
        ++count;
        EXPECT_TRUE(entry.at("top_logprobs").as_array().empty());
      }
  EXPECT_EQ(count, 3u);
}

TEST_F(Chat, logprobs_of_partial_characters_carry_raw_bytes) {
  start_ready();
  answer_with("ü");
  const json::value content = post_ok(kChat, chat(R"(,"logprobs":true,"max_tokens":2)"))
                                  .at("choices")
                                  .at(0)
                                  .at("logprobs")
                                  .at("content");
  EXPECT_EQ(content.at(0).at("token"), "\xEF\xBF\xBD");
  EXPECT_EQ(to_json_text(content.at(0).at("bytes")), "[195]");
}

TEST_F(Chat, tokens_can_be_named_by_id_and_returned) {
  start_ready();
  const json::value reply = post_ok(
      kChat,
      chat(
          R"(,"logprobs":true,"return_tokens_as_token_ids":true,"return_token_ids":true,"max_tokens":2)"));
  EXPECT_EQ(reply.at("choices").at(0).at("logprobs").at("content").at(0).at("token"),
            "token_id:72");
  EXPECT_EQ(to_json_text(reply.at("choices").at(0).at("token_ids")), "[72,101]");
  EXPECT_EQ(reply.at("prompt_token_ids").as_array().size(), engine_.last_request().prompt.size());
  const auto events =
      events_of(post(kChat, chat(R"(,"return_token_ids":true,"stream":true)")).body);
  EXPECT_TRUE(events.front().as_object().contains("prompt_token_ids"));
  std::string ids;
  for (const json::value& event : events)
    if (const json::value* list = event.at("choices").at(0).as_object().if_contains("token_ids"))
      for (const json::value& id : list->as_array()) ids += to_json_text(id) + " ";
  EXPECT_EQ(ids, "72 101 108 108 111 257 ");
}

TEST_F(Chat, prompt_logprobs_begin_with_null) {
  start_ready();
  const json::value reply = post_ok(kChat, chat(R"(,"prompt_logprobs":1)"));
  const json::value& list = reply.at("prompt_logprobs");
  ASSERT_EQ(list.as_array().size(), engine_.last_request().prompt.size());
  EXPECT_TRUE(list.at(0).is_null());
  EXPECT_EQ(to_json_text(list.at(1)), R"({"117":{"logprob":-0.5,"rank":1,"decoded_token":"u"}})");
}

TEST_F(Chat, content_parts_tools_and_names_reach_the_template) {
  start_ready();
  post_ok(
      kChat,
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})");
  const std::vector<int32_t> expected = bytes_of("user\na\nb");
  const std::vector<int32_t> prompt = engine_.last_request().prompt;
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), prompt.begin() + 1));
  // Tools: this template takes none, so they are left out.
  const json::value reply = post_ok(
      kChat,
      chat(
          R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"auto")"));
  EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"), "Hello");
}

TEST_F(Chat, tools_and_kwargs_are_rendered_by_templates_that_take_them) {
  start(default_config());
  answer_with("x");
  server_->set_model(
      served_model("{{ messages[0].content }}|{% if tools %}{{ tools[0].function.name }}{% endif "
                   "%}|{{ reasoning_effort }}|{{ mode }}"));
  const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f"}}])";
  post_ok(kChat, chat(tools + R"(,"reasoning_effort":"low","chat_template_kwargs":{"mode":"m"})"));
  EXPECT_EQ(engine_.last_request().prompt, bytes_of("Hi|f|low|m"));
  post_ok(kChat, chat(tools + R"(,"tool_choice":"none")"));
  EXPECT_EQ(engine_.last_request().prompt, bytes_of("Hi|||"));
}

TEST_F(Chat, continue_final_message_leaves_the_turn_open) {
  start_ready();
  const std::string body =
      R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Well"}],)"
      R"("add_generation_prompt":false,"continue_final_message":true)";
  const json::value reply = post_ok(kChat, body + R"(,"echo":true})");
  const auto prompt = engine_.last_request().prompt;
  const auto tail = bytes_of("assistant\nWell");
  ASSERT_GT(prompt.size(), tail.size());
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(),
                         prompt.end() - static_cast<std::ptrdiff_t>(tail.size())));
  EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"), "WellHello");
  EXPECT_EQ(streamed_text(events_of(post(kChat, body + R"(,"echo":true,"stream":true})").body)),
            "WellHello");
}

}  // namespace
}  // namespace donar::server::testing
