// /v1/completions: prompt forms, echo, logprobs, several prompts.
#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

constexpr const char* kCompletions = "/v1/completions";

class Completions : public ServerTest {};

TEST_F(Completions, a_reply_has_every_field_of_vllm) {
  start_ready();
  const json::value reply = post_ok(kCompletions, R"({"prompt":"Say"})");
  EXPECT_EQ(reply.at("object"), "text_completion");
  EXPECT_EQ(std::string_view(reply.at("id").as_string()).substr(0, 5), "cmpl-");
  const json::value& choice = reply.at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "Hello");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  for (const char* name :
       {"logprobs", "stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids"})
    EXPECT_TRUE(choice.at(name).is_null()) << name;
  EXPECT_EQ(reply.at("usage").at("prompt_tokens"), 3);
  EXPECT_EQ(engine_.last_request().max_tokens, 16);
  EXPECT_TRUE(reply.as_object().contains("timings"));
}

TEST_F(Completions, prompts_come_in_four_forms) {
  start_ready();
  post_ok(kCompletions, R"({"prompt":[65,66.0]})");
  EXPECT_EQ(engine_.last_request().prompt, (std::vector<int32_t>{65, 66}));
  post_ok(kCompletions, R"({"prompt":"<|im_start|>a"})");  // a raw prompt may spell special tokens
  EXPECT_EQ(engine_.last_request().prompt, (std::vector<int32_t>{kImStart, 'a'}));
  for (const char* list : {R"(["ab","c"])", "[[97,98],[99]]", R"(["ab",[99]])"}) {
    const json::value reply =
        post_ok(kCompletions, std::string(R"({"n":2,"prompt":)") + list + "}");
    ASSERT_EQ(reply.at("choices").as_array().size(), 4u);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(reply.at("choices").at(static_cast<size_t>(i)).at("index"), i);
    EXPECT_EQ(reply.at("usage").at("prompt_tokens"), 3);
    EXPECT_EQ(reply.at("usage").at("completion_tokens"), 24);
  }
}

TEST_F(Completions, more_prompts_than_the_inbox_takes_wait_their_turn) {
  start_ready();
  engine_.max_active = 2;
  const json::value reply = post_ok(kCompletions, R"({"prompt":["a","b","c","d","e","f","g"]})");
  EXPECT_EQ(reply.at("choices").as_array().size(), 7u);
  const auto events =
      events_of(post(kCompletions, R"({"stream":true,"prompt":["a","b","c","d","e"]})").body);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(streamed_text(events, i), "Hello") << i;
}

TEST_F(Completions, a_stream_has_text_chunks) {
  start_ready();
  const auto events = events_of(post(kCompletions, R"({"prompt":"a","stream":true})").body);
  EXPECT_EQ(streamed_text(events), "Hello");
  EXPECT_EQ(events.front().at("object"), "text_completion");
  EXPECT_EQ(events.back().at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_TRUE(events.back().as_object().contains("timings"));
}

TEST_F(Completions, logprobs_follow_the_old_form) {
  start_ready();
  const json::value logprobs =
      post_ok(kCompletions, R"({"prompt":"a","logprobs":1,"max_tokens":2})")
          .at("choices")
          .at(0)
          .at("logprobs");
  EXPECT_EQ(
      to_json_text(logprobs),
      R"({"text_offset":[0,1],"token_logprobs":[-0.5,-0.5],"tokens":["H","e"],"top_logprobs":[{"H":-0.5},{"e":-0.5}]})");
  EXPECT_EQ(post_ok(kCompletions, R"({"prompt":"a","logprobs":2,"max_tokens":1})")
                .at("choices")
                .at(0)
                .at("logprobs")
                .at("top_logprobs")
                .at(0),
            (json::value{{"H", -0.5}, {"I", -1.5}}));
}

TEST_F(Completions, echo_repeats_the_prompt) {
  start_ready();
  EXPECT_EQ(
      post_ok(kCompletions, R"({"prompt":"Say ","echo":true})").at("choices").at(0).at("text"),
      "Say Hello");
  EXPECT_EQ(
      post_ok(kCompletions, R"({"prompt":[83,97],"echo":true})").at("choices").at(0).at("text"),
      "SaHello");
  EXPECT_EQ(streamed_text(events_of(
                post(kCompletions, R"({"prompt":"Say ","echo":true,"stream":true})").body)),
            "Say Hello");
}

TEST_F(Completions, echo_with_logprobs_begins_with_null) {
  start_ready();
  const json::value reply =
      post_ok(kCompletions, R"({"prompt":"ab","echo":true,"logprobs":1,"max_tokens":1})");
  EXPECT_EQ(reply.at("choices").at(0).at("text"), "abH");
  EXPECT_EQ(
      to_json_text(reply.at("choices").at(0).at("logprobs")),
      R"({"text_offset":[0,1,2],"token_logprobs":[null,-0.5,-0.5],"tokens":["a","b","H"],"top_logprobs":[null,{"b":-0.5},{"H":-0.5}]})");
}

TEST_F(Completions, echo_with_max_tokens_0_scores_the_prompt) {
  start_ready();
  for (const bool stream : {false, true}) {
    const std::string body =
        std::string(R"({"prompt":"abc","echo":true,"logprobs":0,"max_tokens":0,"stream":)") +
        (stream ? "true}" : "false}");
    json::value choice;
    if (stream) {
      choice = events_of(post(kCompletions, body).body).front().at("choices").at(0);
    } else {
      choice = post_ok(kCompletions, body).at("choices").at(0);
      EXPECT_EQ(choice.at("finish_reason"), "length");
    }
    EXPECT_EQ(choice.at("text"), "abc");
    EXPECT_EQ(choice.at("logprobs").at("tokens").as_array().size(), 3u);
    EXPECT_TRUE(choice.at("logprobs").at("token_logprobs").at(0).is_null());
  }
  engine_.context = 3;  // a prompt that fills the context can still be scored
  post_ok(kCompletions, R"({"prompt":"abc","echo":true,"logprobs":0,"max_tokens":0})");
}

TEST_F(Completions, a_stop_string_in_one_choice_leaves_the_others) {
  start_ready();
  answer_with("ab. cd");
  const json::value reply = post_ok(kCompletions, R"({"prompt":"a","n":2,"stop":". "})");
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(reply.at("choices").at(i).at("text"), "ab");
    EXPECT_EQ(reply.at("choices").at(i).at("stop_reason"), ". ");
  }
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.stopped + engine_.finished == 1; }));
  EXPECT_EQ(engine_.aborted, 0);
}

TEST_F(Completions, logprobs_end_where_the_stop_string_does) {
  start_ready();
  answer_with("abXYcd");
  const json::value choice =
      post_ok(kCompletions, R"({"prompt":"a","logprobs":0,"stop":"XY"})").at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "ab");
  EXPECT_EQ(to_json_text(choice.at("logprobs").at("tokens")), R"(["a","b","X","Y"])");
}

TEST_F(Completions, an_unfinished_character_at_the_end_is_shown_as_one) {
  start_ready();
  answer_with("a\xC3");
  EXPECT_EQ(post_ok(kCompletions, R"({"prompt":"a"})").at("choices").at(0).at("text"),
            "a\xEF\xBF\xBD");
  engine_.script = [](const engine::Request&) {
    return Script{{kNaive, 0xAF}, kImEnd, std::nullopt, 0, std::nullopt};
  };
  EXPECT_EQ(streamed_text(events_of(post(kCompletions, R"({"prompt":"a","stream":true})").body)),
            "naï");
}

TEST_F(Completions, bad_requests_say_what_is_wrong) {
  start_ready();
  const auto refused = [&](const std::string& fields, const std::string& word) {
    const std::string message = post_error(kCompletions, "{" + fields + "}", 400);
    EXPECT_NE(message.find(word), std::string::npos) << fields << " -> " << message;
  };
  refused(R"("model":"tiny")", "prompt is required");
  refused(R"("prompt":null)", "prompt is required");
  refused(R"("prompt":[])", "prompt must be");
  refused(R"("prompt":{})", "prompt must be");
  refused(R"("prompt":[1,"a"])", "prompt must be");
  refused(R"("prompt":["a",1])", "prompt must be");
  refused(R"("prompt":[-1])", "prompt must be");
  refused(R"("prompt":[999999])", "out of vocabulary");
  refused(R"("prompt":"")", "no tokens");
  refused(R"("prompt":[[]])", "no tokens");
  refused(R"("prompt":"a","max_tokens":0)", "max_tokens must be at least 1");
  refused(R"("prompt":"a","logprobs":-1)", "`logprobs` must be a positive value");
  refused(R"("prompt":"a","logprobs":21)", "greater than max allowed");
  refused(R"("prompt":"a","logprobs":true)", "logprobs must be an integer");
  refused(R"("prompt":"a","best_of":4)", "best_of");
  refused(R"("prompt":"a","suffix":"b")", "suffix is not supported");
  refused(R"("prompt":"a","prompt_embeds":"AAAA")", "prompt_embeds is not supported");
  EXPECT_EQ(engine_.submitted, 0);
  post_ok(kCompletions,
          R"({"prompt":"a","suffix":"","best_of":1,"logprobs":false,"prompt_embeds":null})");
}

}  // namespace
}  // namespace donar::server::testing
