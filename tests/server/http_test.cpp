// The HTTP layer over a real socket: framing, limits, timeouts, connections.
#include <fmt/format.h>

#include <thread>

#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

class Http : public ServerTest {};

TEST_F(Http, a_connection_serves_many_requests) {
  start_ready();
  HttpClient client(port());
  for (int i = 0; i < 3; ++i) {
    client.send_request("GET", "/version");
    EXPECT_EQ(client.receive().status, 200);
  }
}

TEST_F(Http, pipelined_requests_are_answered_in_order) {
  start_ready();
  HttpClient client(port());
  client.send_raw(
      "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: "
      "localhost\r\n\r\n"
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nContent-Length: "
      "14\r\n\r\n{\"prompt\":\"a\"}GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(client.receive().status, 404);
  EXPECT_EQ(parse(client.receive().body).at("count"), 1);
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(Http, connection_close_is_honoured_and_http_1_0_closes) {
  start_ready();
  HttpClient client(port());
  client.send_request("GET", "/version", "", {{"Connection", "close"}});
  const Reply reply = client.receive();
  EXPECT_EQ(reply.header("connection"), "close");
  EXPECT_TRUE(client.closed_by_peer());
  HttpClient old(port());
  old.send_raw("GET /version HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.receive().status, 200);
  EXPECT_TRUE(old.closed_by_peer());
}

TEST_F(Http, head_has_the_length_of_get_and_no_body) {
  start_ready();
  for (const char* path : {"/version", "/v1/models", "/health", "/ping", "/load"}) {
    HttpClient client(port());
    client.send_request("GET", path);
    const Reply full = client.receive();
    client.send_request("HEAD", path);
    const Reply head = client.receive(/*head_only=*/true);
    EXPECT_EQ(head.status, full.status) << path;
    EXPECT_EQ(head.header("content-length"), full.header("content-length")) << path;
    client.send_request("GET", "/version");  // what follows is a reply, not a leftover body
    EXPECT_EQ(client.receive().status, 200) << path;
  }
}

TEST_F(Http, chunked_bodies_are_read) {
  start_ready();
  HttpClient client(port());
  client.send_raw(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"pro\r\nb\r\nmpt\":\"abc\"}\r\n0\r\n\r\n");
  EXPECT_EQ(parse(client.receive().body).at("count"), 3);
}

TEST_F(Http, a_body_may_come_in_pieces) {
  start_ready();
  HttpClient client(port());
  client.send_raw("POST /tokenize HTTP/1.1\r\nHost: loc");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  client.send_raw(
      "alhost\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"prompt\"");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  client.send_raw(":\"abc\"}");
  EXPECT_EQ(parse(client.receive().body).at("count"), 3);
}

TEST_F(Http, expect_100_continue_gets_its_go_ahead) {
  start_ready();
  HttpClient client(port());
  client.send_raw(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: "
      "100-continue\r\nContent-Length: 14\r\n\r\n");
  EXPECT_EQ(client.receive().status, 100);
  client.send_raw("{\"prompt\":\"a\"}");
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(Http, malformed_requests_get_400_and_the_connection_ends) {
  start_ready();
  for (
      const char* bad :
      {"NONSENSE\r\n\r\n", "GET / HTTP/7.0\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
       "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /version HTTP/1.1\r\n\r\n",
       "GET /version HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
       "GET /version HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
       "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
       "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: "
       "chunked\r\n\r\n0\r\n\r\n",
       "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"}) {
    HttpClient client(port());
    client.send_raw(bad);
    const Reply reply = client.receive();
    EXPECT_EQ(reply.status, 400) << bad;
    EXPECT_EQ(reply.header("connection"), "close") << bad;
    EXPECT_NE(error_message(reply).find("malformed"), std::string::npos) << reply.body;
    EXPECT_TRUE(client.closed_by_peer()) << bad;
  }
  EXPECT_EQ(get("/version").status, 200);
}

TEST_F(Http, a_body_over_the_limit_gets_413_that_the_client_can_read) {
  ServerConfig config = default_config();
  config.max_body_bytes = 1000;
  start_ready(config);
  HttpClient client(port());
  client.send_request("POST", "/tokenize", std::string(2'000'000, 'x'));
  const Reply reply = client.receive();
  EXPECT_EQ(reply.status, 413);
  EXPECT_NE(error_message(reply).find("1000"), std::string::npos);
  HttpClient chunked(port());
  chunked.send_raw(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n7d0\r\n" +
      std::string(2000, 'x') + "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.receive().status, 413);
}

TEST_F(Http, a_head_over_the_limit_gets_431) {
  ServerConfig config = default_config();
  config.max_header_bytes = 2000;
  start_ready(config);
  HttpClient client(port());
  client.send_raw("GET /version HTTP/1.1\r\nHost: localhost\r\nX-Long: " + std::string(5000, 'a'));
  EXPECT_EQ(client.receive().status, 431);
}

TEST_F(Http, a_head_that_does_not_arrive_gets_408) {
  ServerConfig config = default_config();
  config.header_timeout = std::chrono::milliseconds(50);
  start_ready(config);
  HttpClient client(port());
  client.send_raw("GET /version HTTP/1.1\r\nHost:");
  EXPECT_EQ(client.receive().status, 408);
  EXPECT_TRUE(client.closed_by_peer());
}

TEST_F(Http, a_body_that_stalls_gets_408) {
  ServerConfig config = default_config();
  config.body_timeout = std::chrono::milliseconds(50);
  start_ready(config);
  HttpClient client(port());
  client.send_raw("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(client.receive().status, 408);
}

TEST_F(Http, an_idle_connection_is_closed_quietly) {
  ServerConfig config = default_config();
  config.idle_timeout = std::chrono::milliseconds(50);
  start_ready(config);
  HttpClient client(port());
  client.send_request("GET", "/version");
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_TRUE(client.closed_by_peer());
}

TEST_F(Http, an_answer_that_takes_longer_than_the_idle_timeout_is_not_cut) {
  ServerConfig config = default_config();
  config.idle_timeout = config.header_timeout = config.body_timeout = std::chrono::milliseconds(50);
  start_ready(config);
  engine_.held = true;
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", R"({"prompt":"a"})");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  engine_.held = false;
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(Http, a_taken_port_is_one_clear_error) {
  start_ready();
  ServerConfig config = default_config();
  config.port = port();
  Server second(config);
  const auto started = second.start();
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().message.find(fmt::format("127.0.0.1:{}", port())), std::string::npos);
  EXPECT_NE(started.error().message.find("already in use"), std::string::npos);
  EXPECT_NE(started.error().message.find("--port"), std::string::npos);
}

TEST_F(Http, tls_needs_both_files_and_names_a_bad_one) {
  ServerConfig config = default_config();
  config.ssl_certfile = "/nowhere/cert.pem";
  {
    Server server(config);
    const auto started = server.start();
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().message.find("--ssl-keyfile"), std::string::npos);
  }
  config.ssl_keyfile = "/nowhere/key.pem";
  Server server(config);
  const auto started = server.start();
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().message.find("/nowhere/cert.pem"), std::string::npos);
}

TEST_F(Http, stop_with_idle_connections_is_quick_and_final) {
  start_ready();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<HttpClient>(port()));
    clients.back()->send_request("GET", "/version");
    EXPECT_EQ(clients.back()->receive().status, 200);
  }
  const int old_port = port();
  server_->stop();
  for (auto& client : clients) EXPECT_TRUE(client->closed_by_peer());
  EXPECT_FALSE(HttpClient(old_port).connected());
}

}  // namespace
}  // namespace donar::server::testing
