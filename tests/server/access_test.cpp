// Who may ask: Host check, API keys, CORS, methods.
#include "server/access.h"

#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

class Access : public ServerTest {};

TEST_F(Access, a_foreign_host_on_loopback_is_refused) {
  start_ready();
  for (const char* host :
       {"localhost", "LocalHost:1234", "127.0.0.1:8000", "127.8.9.1", "[::1]:80", "box.localhost"})
    EXPECT_EQ(request("GET", "/health", "", {{"Host", host}}).status, 200) << host;
  for (const char* host :
       {"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example",
        "192.168.0.1", "", "[::1", "127.0.0.1@evil.example"}) {
    const Reply reply = request("GET", "/health", "", {{"Host", host}});
    EXPECT_EQ(reply.status, 403) << host;
    EXPECT_NE(error_message(reply).find("DNS rebinding"), std::string::npos);
  }
}

TEST_F(Access, allowed_hosts_widen_the_host_check) {
  ServerConfig config = default_config();
  config.allowed_hosts = {"donar.example"};
  start_ready(config);
  EXPECT_EQ(request("GET", "/health", "", {{"Host", "donar.example:443"}}).status, 200);
  EXPECT_EQ(request("GET", "/health", "", {{"Host", "other.example"}}).status, 403);
}

TEST_F(Access, other_addresses_take_any_host) {
  ServerConfig config = default_config();
  config.host = "0.0.0.0";
  start_ready(config);
  EXPECT_EQ(request("GET", "/health", "", {{"Host", "box.lan"}}).status, 200);
}

TEST_F(Access, keys_guard_everything_but_health_and_the_page) {
  ServerConfig config = default_config();
  config.api_keys = {"first", "second"};
  start_ready(config);
  for (const char* path :
       {"/v1/models", "/v1/models/tiny", "/metrics", "/version", "/load", "/donar/info"}) {
    EXPECT_EQ(get(path).status, 401) << path;
    EXPECT_EQ(request("GET", path, "", {{"Authorization", "Bearer second"}}).status, 200) << path;
  }
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize",
                           "/reset_prefix_cache"})
    EXPECT_EQ(post(path, "{}").status, 401) << path;
  for (const char* path : {"/health", "/ping", "/health/ready"})
    EXPECT_EQ(get(path).status, 200) << path;
  EXPECT_NE(get("/").status, 401);
  for (const char* value :
       {"Bearer wrong", "Bearer ", "Bearer firs", "Bearer firstx", "first", "Basic first"})
    EXPECT_EQ(request("GET", "/v1/models", "", {{"Authorization", value}}).status, 401) << value;
  EXPECT_EQ(request("GET", "/v1/models", "", {{"Authorization", "bearer first"}}).status, 200);
  EXPECT_EQ(get("/version").header("www-authenticate"), "Bearer");
}

TEST_F(Access, a_refused_request_with_a_body_ends_its_connection_readably) {
  ServerConfig config = default_config();
  config.api_keys = {"k"};
  start_ready(config);
  HttpClient client(port());
  client.send_request("POST", "/v1/completions",
                      "{\"prompt\":\"" + std::string(3'000'000, 'a') + "\"}");
  const Reply reply = client.receive();
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.header("connection"), "close");
}

TEST_F(Access, no_cors_header_without_allowed_origins) {
  start_ready();
  const Reply reply = request("GET", "/v1/models", "", {{"Origin", "https://app.example"}});
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("access-control-allow-origin"), "");
  const Reply preflight =
      request("OPTIONS", "/v1/chat/completions", "",
              {{"Origin", "https://app.example"}, {"Access-Control-Request-Method", "POST"}});
  EXPECT_EQ(preflight.status, 405);
}

TEST_F(Access, allowed_origins_get_cors_headers_and_preflight) {
  ServerConfig config = default_config();
  config.allowed_origins = {"https://app.example"};
  config.api_keys = {"k"};
  start_ready(config);
  const Reply preflight =
      request("OPTIONS", "/v1/chat/completions", "",
              {{"Origin", "https://app.example"},
               {"Access-Control-Request-Method", "POST"},
               {"Access-Control-Request-Headers", "authorization,content-type"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(preflight.header("access-control-allow-headers"), "authorization,content-type");
  EXPECT_NE(preflight.header("access-control-allow-methods").find("POST"), std::string::npos);
  EXPECT_EQ(preflight.header("vary"), "Origin");
  const Reply refused = request("GET", "/v1/models", "", {{"Origin", "https://app.example"}});
  EXPECT_EQ(refused.status, 401);  // readable by the page, too
  EXPECT_EQ(refused.header("access-control-allow-origin"), "https://app.example");
  const Reply other = request("GET", "/health", "", {{"Origin", "https://evil.example"}});
  EXPECT_EQ(other.header("access-control-allow-origin"), "");
}

TEST_F(Access, any_origin_is_a_star) {
  ServerConfig config = default_config();
  config.allowed_origins = {"*"};
  start_ready(config);
  EXPECT_EQ(request("GET", "/health", "", {{"Origin", "https://a.example"}})
                .header("access-control-allow-origin"),
            "*");
}

TEST_F(Access, a_wrong_method_is_405_with_allow) {
  start_ready();
  const Reply chat = get("/v1/chat/completions");
  EXPECT_EQ(chat.status, 405);
  EXPECT_EQ(chat.header("allow"), "POST");
  error_message(chat);
  const Reply models = post("/v1/models", "{}");
  EXPECT_EQ(models.status, 405);
  EXPECT_EQ(models.header("allow"), "GET, HEAD");
  EXPECT_EQ(request("DELETE", "/v1/models/tiny").status, 405);
  EXPECT_EQ(request("PUT", "/").status, 405);
}

TEST_F(Access, an_unknown_path_is_404_with_an_error_object) {
  start_ready();
  for (const char* path : {"/v1/nothing", "/v1", "/nothing", "/v1/embeddings"}) {
    const Reply reply = get(path);
    EXPECT_EQ(reply.status, 404) << path;
    error_message(reply);
  }
  EXPECT_EQ(post("/v1/embeddings", "{}").status, 404);
}

TEST_F(Access, request_ids_are_echoed_or_made) {
  start_ready();
  EXPECT_EQ(request("GET", "/health", "", {{"X-Request-Id", "my-id.7"}}).header("x-request-id"),
            "my-id.7");
  EXPECT_EQ(get("/health").header("x-request-id").size(), 32u);
  EXPECT_NE(request("GET", "/health", "", {{"X-Request-Id", "with blank"}}).header("x-request-id"),
            "with blank");
  const json::value reply = parse(
      request("POST", "/v1/completions", R"({"prompt":"a"})", {{"X-Request-Id", "abc"}}).body);
  EXPECT_EQ(reply.at("id"), "cmpl-abc");
}

TEST(LoopbackName, only_names_of_this_machine) {
  EXPECT_TRUE(is_loopback_name("127.0.0.1"));
  EXPECT_TRUE(is_loopback_name("::1"));
  EXPECT_TRUE(is_loopback_name("localhost."));
  EXPECT_FALSE(is_loopback_name("0.0.0.0"));
  EXPECT_FALSE(is_loopback_name("::"));
  EXPECT_FALSE(is_loopback_name("127.evil.example"));
  EXPECT_FALSE(is_loopback_name("notlocalhost"));
  EXPECT_FALSE(is_loopback_name(""));
}

}  // namespace
}  // namespace donar::server::testing
