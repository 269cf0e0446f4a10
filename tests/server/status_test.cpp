// Everything that does not generate: health, models, tokenize, metrics, info, the page.
#include <zlib.h>

#include "server/metrics.h"
#include "server/page.h"
#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

class Status : public ServerTest {};

TEST_F(Status, while_loading_health_says_so_and_models_answer) {
  start(default_config());
  EXPECT_EQ(get("/health").status, 503);
  server_->set_loading({"weights", 25, 100, 1.5});
  const Reply health = get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(
      to_json_text(parse(health.body)),
      R"({"status":"loading","phase":"weights","done_bytes":25,"total_bytes":100,"progress":0.25,"seconds":1.5})");
  EXPECT_EQ(get("/ping").status, 503);
  const json::value models = parse(get("/v1/models").body);
  EXPECT_EQ(models.at("data").at(0).at("id"), "tiny");
  EXPECT_TRUE(models.at("data").at(0).at("max_model_len").is_null());
  const Reply refused = post("/v1/chat/completions", "{}");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("retry-after"), "1");
  EXPECT_NE(error_message(refused).find("weights, 25 %"), std::string::npos);
  EXPECT_EQ(post("/tokenize", "{}").status, 503);
  EXPECT_EQ(get("/metrics").status, 200);
  const json::value info = parse(get("/donar/info").body);
  EXPECT_EQ(info.at("status"), "loading");
  EXPECT_EQ(info.at("loading").at("phase"), "weights");
  answer_with("Hello");
  server_->set_model(served_model());
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/ping").status, 200);
  EXPECT_EQ(get("/health/ready").status, 200);
  post_ok("/v1/completions", R"({"prompt":"a"})");
}

TEST_F(Status, a_failed_engine_is_unhealthy) {
  start_ready();
  engine_.is_healthy = false;
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(parse(get("/health").body).at("status"), "failed");
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a"})").status, 503);
}

TEST_F(Status, models_are_cards_and_ids_may_hold_slashes) {
  start_ready();
  const json::value list = parse(get("/v1/models").body);
  EXPECT_EQ(list.at("object"), "list");
  ASSERT_EQ(list.at("data").as_array().size(), 2u);
  const json::value& card = list.at("data").at(0);
  EXPECT_EQ(card.at("object"), "model");
  EXPECT_EQ(card.at("root"), "/models/tiny");
  EXPECT_EQ(card.at("max_model_len"), 1000);
  EXPECT_EQ(card.at("permission").at(0).at("object"), "model_permission");
  EXPECT_EQ(parse(get("/v1/models/org/tiny-alias").body).at("id"), "org/tiny-alias");
  EXPECT_EQ(parse(get("/v1/models/org%2Ftiny-alias").body).at("id"), "org/tiny-alias");
  EXPECT_EQ(get("/v1/models/org/other").status, 404);
}

TEST_F(Status, tokenize_takes_prompts_and_messages) {
  start_ready();
  EXPECT_EQ(to_json_text(post_ok("/tokenize", R"({"prompt":"ab<|im_end|>"})")),
            R"({"count":3,"max_model_len":1000,"tokens":[97,98,257],"token_strs":null})");
  EXPECT_EQ(
      to_json_text(
          post_ok("/tokenize", R"({"prompt":"a b","return_token_strs":true})").at("token_strs")),
      "[\"a\",\"\xC4\xA0\",\"b\"]");
  const json::value chat =
      post_ok("/tokenize", R"({"messages":[{"role":"user","content":"Hi"}],"model":"tiny"})");
  EXPECT_EQ(chat.at("count"), 21);
  EXPECT_NE(post_error("/tokenize", "{}", 400).find("prompt or messages"), std::string::npos);
  EXPECT_NE(post_error("/tokenize", R"({"prompt":5})", 400).find("string"), std::string::npos);
  post_error("/tokenize", R"({"prompt":"a","model":"other"})", 404);
  post_error("/tokenize", R"({"messages":[]})", 400);
}

TEST_F(Status, detokenize_gives_text) {
  start_ready();
  EXPECT_EQ(post_ok("/detokenize", R"({"tokens":[72,105,257]})").at("prompt"), "Hi<|im_end|>");
  post_error("/detokenize", R"({"tokens":[99999]})", 400);
  post_error("/detokenize", R"({"tokens":"x"})", 400);
  post_error("/detokenize", "{}", 400);
}

TEST_F(Status, the_prefix_cache_can_be_reset) {
  start_ready();
  EXPECT_EQ(post("/reset_prefix_cache", "").status, 200);
  EXPECT_EQ(engine_.resets, 1);
}

TEST_F(Status, info_holds_what_the_page_shows) {
  start_ready();
  const json::value info = parse(get("/donar/info").body);
  EXPECT_EQ(info.at("status"), "ready");
  EXPECT_EQ(info.at("model"), "tiny");
  EXPECT_EQ(info.at("precision"), "Q4_1");
  EXPECT_EQ(info.at("max_model_len"), 1000);
  EXPECT_EQ(info.at("kv_usage"), 0.25);
  EXPECT_EQ(info.at("waiting"), 3);
  EXPECT_EQ(info.at("chat"), true);
  EXPECT_TRUE(info.at("loading").is_null());
}

TEST_F(Status, load_counts_generations) {
  start_ready();
  engine_.held = true;
  HttpClient client(port());
  client.send_request("POST", "/v1/completions", R"({"prompt":"a"})");
  EXPECT_TRUE(FakeEngine::eventually([&] { return engine_.submitted == 1; }));
  EXPECT_EQ(parse(get("/load").body).at("server_load"), 1);
  engine_.held = false;
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(Status, metrics_carry_vllms_names_and_labels) {
  start_ready();
  engine::StatsListener& listener = *server_->stats_listener();
  engine::StepStats step;
  step.prompt_tokens = 10;
  step.generated_tokens = 2;
  step.prefix_queries = 16;
  step.prefix_hits = 4;
  step.preemptions = 1;
  step.seconds = 0.004;
  step.host_seconds = 0.00004;
  step.is_graph = true;
  listener.on_step(step);
  listener.on_first_token(0.02);
  listener.on_inter_token(0.004);
  engine::RequestTiming timing;
  timing.arrived = timing.scheduled = Clock::now();
  timing.first_token = timing.arrived + std::chrono::milliseconds(20);
  timing.last_token = timing.arrived + std::chrono::milliseconds(60);
  timing.prompt_tokens = 14;
  timing.generated_tokens = 2;
  listener.on_finish(timing, engine::FinishReason::kStop, engine::Request{});
  server_->set_startup_seconds("weights", 1.5);
  server_->set_memory_bytes("host", "kv", 4096);
  post("/v1/completions", R"({"prompt":"a"})");
  post("/nothing", "{}");
  const Reply reply = get("/metrics");
  EXPECT_EQ(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const std::string& text = reply.body;
  const std::string labels = R"({engine="0",model_name="tiny")";
  for (const std::string& line : std::vector<std::string>{
           "vllm:num_requests_waiting" + labels + "} 3",
           "vllm:num_requests_waiting_by_reason" + labels + ",reason=\"capacity\"} 3",
           "vllm:kv_cache_usage_perc" + labels + "} 0.25",
           "vllm:gpu_cache_usage_perc" + labels + "} 0.25",
           "vllm:gpu_prefix_cache_hit_rate" + labels + "} 0.25",
           "vllm:gpu_prefix_cache_hits_total" + labels + "} 4",
           "vllm:prompt_tokens_total" + labels + "} 14",
           "vllm:generation_tokens_total" + labels + "} 2",
           "vllm:num_preemptions_total" + labels + "} 1",
           "vllm:prefix_cache_queries_total" + labels + "} 16",
           "vllm:request_success_total" + labels + ",finished_reason=\"stop\"} 1",
           "vllm:time_to_first_token_seconds_bucket" + labels + ",le=\"0.02\"} 1",
           "vllm:time_to_first_token_seconds_count" + labels + "} 1",
           "vllm:inter_token_latency_seconds_count" + labels + "} 1",
           "vllm:time_per_output_token_seconds_count" + labels + "} 1",
           "donar:inter_token_latency_seconds_bucket" + labels + ",le=\"0.003\"} 0",
           "donar:inter_token_latency_seconds_bucket" + labels + ",le=\"0.004\"} 1",
           "vllm:e2e_request_latency_seconds_bucket" + labels + ",le=\"0.3\"} 1",
           "vllm:request_prompt_tokens_bucket" + labels + ",le=\"10\"} 0",
           "vllm:request_prompt_tokens_bucket" + labels + ",le=\"20\"} 1",
           "vllm:iteration_tokens_total_bucket" + labels + ",le=\"16\"} 1",
           "donar:step_host_seconds_count" + labels + ",launch=\"graph\"} 1",
           "donar:step_host_seconds_count" + labels + ",launch=\"eager\"} 0",
           "donar:startup_seconds{phase=\"weights\"} 1.5",
           "donar:memory_bytes{memory=\"host\",use=\"kv\"} 4096",
           "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 1",
           "http_requests_total{handler=\"none\",method=\"POST\",status=\"4xx\"} 1",
       })
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line;
  EXPECT_NE(text.find("vllm:cache_config_info{"), std::string::npos);
  EXPECT_NE(text.find("num_gpu_blocks=\"64\""), std::string::npos);
  for (const char* name :
       {"process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds "})
    EXPECT_NE(text.find(std::string("\n") + name), std::string::npos) << name;
  EXPECT_EQ(text.find("handler=\"/metrics\""), std::string::npos);
  // Every family has its HELP and TYPE before its samples.
  size_t at = 0;
  std::string family;
  while (at < text.size()) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    if (line.rfind("# HELP ", 0) == 0) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_GT(line.size(), 8 + family.size()) << "no help: " << line;
    } else if (line.rfind("# TYPE ", 0) == 0) {
      EXPECT_EQ(line.substr(7, line.find(' ', 7) - 7), family);
    } else if (!line.empty()) {
      EXPECT_EQ(line.rfind(family, 0), 0u) << line << " under " << family;
    }
  }
}

TEST_F(Status, metrics_can_be_off) {
  ServerConfig config = default_config();
  config.metrics = false;
  start_ready(config);
  EXPECT_EQ(get("/metrics").status, 404);
}

std::string gzip(const std::string& text) {
  std::string out(text.size() + 100, '\0');
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<unsigned int>(text.size());
  stream.next_out = reinterpret_cast<unsigned char*>(out.data());
  stream.avail_out = static_cast<unsigned int>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Page : public ::testing::Test {
 protected:
  Response serve(const std::string& path, std::vector<Header> headers = {}) {
    Request request;
    request.method = "GET";
    request.path = path;
    request.headers = std::move(headers);
    return serve_page(assets_, request);
  }
  static std::string header(const Response& response, std::string_view name) {
    for (const Header& header : response.headers)
      if (header.name == name) return header.value;
    return {};
  }

  const std::string html_ = "<!doctype html><title>Donar</title>" + std::string(500, ' ');
  const std::string packed_ = gzip(html_);
  const PageAsset assets_[2] = {
      {"/index.html", reinterpret_cast<const unsigned char*>(packed_.data()), packed_.size(),
       html_.size(), "abc"},
      {"/app.js", reinterpret_cast<const unsigned char*>(packed_.data()), packed_.size(),
       html_.size(), "def"}};
};

TEST_F(Page, is_plain_or_gzip_as_the_client_wants) {
  const Response plain = serve("/");
  EXPECT_EQ(plain.status, 200);
  EXPECT_EQ(plain.body, html_);
  EXPECT_EQ(header(plain, "Content-Encoding"), "");
  EXPECT_EQ(header(plain, "Vary"), "Accept-Encoding");
  for (const char* accepted : {"gzip", "br, gzip;q=0.8", "GZIP", "*"}) {
    const Response packed = serve("/", {{"accept-encoding", accepted}});
    EXPECT_EQ(packed.body, packed_) << accepted;
    EXPECT_EQ(header(packed, "Content-Encoding"), "gzip") << accepted;
  }
  for (const char* refused : {"", "br", "gzip;q=0", "identity, *;q=0"})
    EXPECT_EQ(serve("/", {{"Accept-Encoding", refused}}).body, html_) << refused;
}

TEST_F(Page, carries_types_policy_and_etag) {
  const Response page = serve("/index.html");
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_EQ(header(page, "Cache-Control"), "no-cache");
  EXPECT_EQ(header(page, "X-Content-Type-Options"), "nosniff");
  EXPECT_NE(header(page, "Content-Security-Policy").find("default-src 'self'"), std::string::npos);
  EXPECT_EQ(header(page, "ETag"), "W/\"abc\"");
  EXPECT_EQ(serve("/app.js").content_type, "text/javascript; charset=utf-8");
  const Response same = serve("/", {{"If-None-Match", "\"x\", W/\"abc\""}});
  EXPECT_EQ(same.status, 304);
  EXPECT_TRUE(same.body.empty());
  EXPECT_EQ(serve("/", {{"If-None-Match", "\"x\""}}).status, 200);
}

TEST_F(Page, nothing_else_is_there) {
  for (const char* path : {"/other", "/index.htm", "/../index.html", "//index.html", "/app.js/"})
    EXPECT_EQ(serve(path).status, 404) << path;
  const Response missing = serve_page({}, [] {
    Request request;
    request.path = "/";
    return request;
  }());
  EXPECT_EQ(missing.status, 404);
  EXPECT_NE(missing.body.find("web/dist"), std::string::npos);
}

TEST_F(Status, the_embedded_page_is_served) {
  start_ready();
  if (page_assets().empty()) GTEST_SKIP() << "this build has no web/dist";
  const Reply page = request("GET", "/", "", {{"Accept-Encoding", "gzip"}});
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.header("content-encoding"), "gzip");
  const Reply plain = get("/");
  EXPECT_NE(plain.body.find("<html"), std::string::npos);
  EXPECT_EQ(request("GET", "/", "", {{"If-None-Match", page.header("etag")}}).status, 304);
  for (const PageAsset& asset : page_assets()) {
    const Reply reply = get(asset.path);
    EXPECT_EQ(reply.status, 200) << asset.path;
    EXPECT_EQ(reply.body.size(), asset.plain_bytes) << asset.path;
  }
}

}  // namespace
}  // namespace donar::server::testing
