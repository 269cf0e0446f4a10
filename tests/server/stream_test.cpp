// What happens to requests when clients leave, read slowly, come too many, and when the engine or
// the server ends.
#include <fmt/format.h>

#include <thread>

#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

constexpr const char* kStream = R"({"prompt":"a","stream":true,"max_tokens":900})";
constexpr const char* kWhole = R"({"prompt":"a","max_tokens":900})";

class Streams : public ServerTest {
 protected:
  void answer_endlessly(size_t tokens = 900) {
    answer_with(std::string(tokens, 'x'));
    engine_.step_ms = 5;
  }
  void receive_first_chunk(HttpClient& client) {
    EXPECT_EQ(client.receive(/*head_only=*/true).status, 200);
    EXPECT_TRUE(client.receive_chunk().has_value());
  }
};

TEST_F(Streams, a_client_that_leaves_aborts_its_stream) {
  start_ready();
  answer_endlessly();
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", kStream);
  receive_first_chunk(client);
  client.close();
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 1; }));
}

TEST_F(Streams, a_reset_aborts_too) {
  start_ready();
  engine_.held = true;  // nothing is being written, so only the read side can tell
  HttpClient client(port());
  client.send_request("POST", "/v1/chat/completions",
                      R"({"messages":[{"role":"user","content":"a"}],"stream":true})");
  receive_first_chunk(client);
  client.reset();
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 1; }));
}

TEST_F(Streams, a_client_that_leaves_while_it_waits_aborts_its_request) {
  start_ready();
  engine_.held = true;
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", kWhole);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.submitted == 1; }));
  client.close();
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 1; }));
}

// Some 60 kB a step, so that the kernel's buffers are soon full; the engine needs far longer for
// all of it.
constexpr const char* kFlood =
    R"({"prompt":"a","stream":true,"max_tokens":900,"n":32,"logprobs":20})";

TEST_F(Streams, an_outbox_over_the_limit_aborts) {
  ServerConfig config = default_config();
  config.max_outbox_bytes = 200'000;
  start_ready(config);
  answer_endlessly();
  HttpClient client(port(), /*receive_buffer=*/4096);
  client.send_request("POST", "/v1/completions", kFlood);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 1; }));
  EXPECT_EQ(engine_.finished, 0);
}

TEST_F(Streams, a_write_that_is_blocked_too_long_aborts) {
  ServerConfig config = default_config();
  config.max_outbox_bytes = size_t{1} << 30;
  config.max_blocked = std::chrono::milliseconds(100);
  start_ready(config);
  answer_endlessly();
  HttpClient client(port(), /*receive_buffer=*/4096);
  client.send_request("POST", "/v1/completions", kFlood);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 1; }));
  EXPECT_EQ(engine_.finished, 0);
}

TEST_F(Streams, silence_is_broken_by_comments) {
  ServerConfig config = default_config();
  config.keepalive_comment = std::chrono::milliseconds(30);
  start_ready(config);
  engine_.held = true;
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", kStream);
  client.receive(/*head_only=*/true);
  EXPECT_EQ(client.receive_chunk(), ": keep-alive\n\n");
  EXPECT_EQ(client.receive_chunk(), ": keep-alive\n\n");
  engine_.held = false;
  std::string rest;
  while (const auto chunk = client.receive_chunk()) {
    if (chunk->empty()) break;
    rest += *chunk;
  }
  EXPECT_EQ(streamed_text(events_of(rest)), "Hello");
}

TEST_F(Streams, an_engine_error_before_any_text_has_its_status_and_later_is_an_event) {
  start_ready();
  engine_.script = [](const engine::Request&) {
    return Script{bytes_of("ab"), std::nullopt, std::nullopt, 0,
                  Error{ErrorCode::kInternal, "device lost", {}}};
  };
  EXPECT_EQ(post_error("/v1/completions", kWhole, 500), "device lost");
  const Reply reply = post("/v1/completions", kStream);
  EXPECT_EQ(reply.status, 200);
  const auto events = events_of(reply.body);
  EXPECT_EQ(events.back().at("error").at("message"), "device lost");
  EXPECT_EQ(events.back().at("error").at("code"), 500);
  EXPECT_TRUE(events.back().at("choices").as_array().empty());
}

TEST_F(Streams, a_full_inbox_is_429_with_retry_after) {
  start_ready();
  engine_.max_active = 0;
  for (const char* body : {kWhole, kStream}) {
    const Reply reply = post("/v1/completions", body);
    EXPECT_EQ(reply.status, 429);
    EXPECT_EQ(reply.header("retry-after"), "1");
    EXPECT_NE(error_message(reply).find("full"), std::string::npos);
  }
}

TEST_F(Streams, draining_refuses_new_requests_and_finishes_old_ones) {
  start_ready();
  answer_with(std::string(100, 'x'));
  engine_.step_ms = 2;
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", kStream);
  client.receive(/*head_only=*/true);
  server_->begin_drain();
  const Reply refused = post("/v1/completions", kWhole);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("retry-after"), "1");
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(parse(get("/health").body).at("status"), "draining");
  std::string rest;
  while (const auto chunk = client.receive_chunk()) {
    if (chunk->empty()) break;
    rest += *chunk;
  }
  EXPECT_EQ(streamed_text(events_of(rest)), std::string(100, 'x'));
}

TEST_F(Streams, stop_ends_open_answers_with_an_error_object) {
  start_ready();
  engine_.held = true;
  HttpClient streaming(port());
  streaming.send_request("POST", "/v1/completions", kStream);
  streaming.receive(/*head_only=*/true);
  HttpClient waiting(port());
  waiting.send_request("POST", "/v1/completions", kWhole);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.submitted == 2; }));
  server_->stop();
  std::string rest;
  while (const auto chunk = streaming.receive_chunk()) {
    if (chunk->empty()) break;
    rest += *chunk;
  }
  const auto events = events_of(rest);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_NE(to_json_text(events[0]).find("shutting down"), std::string::npos);
  EXPECT_TRUE(streaming.closed_by_peer());
  EXPECT_EQ(waiting.receive().status, 503);
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.aborted == 2; }));
}

TEST_F(Streams, many_clients_at_once_get_their_own_answers) {
  start_ready();
  engine_.script = [](const engine::Request& request) {
    Script script;
    script.tokens = request.prompt;
    script.end_token = kImEnd;
    return script;
  };
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&, t] {
      HttpClient client(port());
      for (int i = 0; i < 10; ++i) {
        const std::string text = fmt::format("client {} turn {}", t, i);
        const bool stream = (t + i) % 2 == 0;
        client.send_request(
            "POST", "/v1/completions",
            fmt::format(R"({{"prompt":"{}","max_tokens":100,"stream":{}}})", text, stream));
        const Reply reply = client.receive();
        if (stream ? streamed_text(events_of(reply.body)) == text
                   : parse(reply.body).at("choices").at(0).at("text") == json::value(text))
          ++right;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 160);
  EXPECT_EQ(engine_.aborted, 0);
  // A client has its answer a moment before its request is gone.
  EXPECT_TRUE(
      FakeEngine::eventually([&] { return parse(get("/load").body).at("server_load") == 0; }));
}

TEST_F(Streams, clients_that_come_and_go_at_random_leave_nothing_behind) {
  start_ready();
  answer_with(std::string(60, 'x'));
  engine_.step_ms = 1;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 12; ++i) {
        HttpClient client(port());
        client.send_request("POST", "/v1/completions", (t + i) % 2 == 0 ? kStream : kWhole);
        switch ((t * 7 + i) % 4) {
          case 0:
            client.receive();
            break;
          case 1:
            client.reset();
            break;
          case 2:
            client.receive(/*head_only=*/true);
            client.close();
            break;
          default:
            client.finish_sending();
            client.receive_rest();
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.gauges().running == 0; }));
  EXPECT_TRUE(
      FakeEngine::eventually([&] { return parse(get("/load").body).at("server_load") == 0; }));
  EXPECT_EQ(post("/v1/completions", kWhole).status, 200);
}

}  // namespace
}  // namespace donar::server::testing
