// The HTTP server as the serve command sees it: it listens at once, answers "loading", and serves
// when it is given a model.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine_api.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace donar::server {

struct ServerConfig {
  std::string host = "127.0.0.1";
  int port = 8000;                           // 0: any free one, see Server::port
  std::vector<std::string> api_keys;         // empty: no key asked for
  std::vector<std::string> model_names;      // the first is echoed in replies; all are accepted
  std::vector<std::string> allowed_origins;  // empty: no CORS header
  std::vector<std::string>
      allowed_hosts;  // on a loopback address: names beside localhost that Host may carry; "*": any
  int io_threads = 2;
  int worker_threads = 2;  // parse, render and tokenize requests
  size_t max_body_bytes = size_t{32} << 20;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_outbox_bytes = size_t{1}
                            << 20;  // unsent bytes of one connection; above: its request is aborted
  std::chrono::milliseconds max_blocked{
      30'000};  // time without progress on a write; above: aborted
  std::chrono::milliseconds keepalive_comment{
      5'000};  // silence on a stream before an SSE comment is sent
  std::chrono::milliseconds header_timeout{
      30'000};  // from a request's first byte to the end of its head
  std::chrono::milliseconds body_timeout{30'000};  // without a byte of the body
  std::chrono::milliseconds idle_timeout{75'000};  // between requests of a connection
  int max_logprobs = 20;
  std::string ssl_certfile, ssl_keyfile;              // both or neither
  std::string chat_template_content_format = "auto";  // auto, string or openai
  bool enable_request_id_headers = true;
  bool force_include_usage = false;  // --enable-force-include-usage
  bool metrics = true;               // false: --disable-log-stats
  bool log_requests = false;         // --enable-log-requests
};

// A model that is ready: everything the routes need.
struct ServedModel {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate>
      chat_template;                    // null: chat requests answer 400 and say how to give one
  engine::EngineApi* engine = nullptr;  // outlives the server's use of it: cleared by Server::stop
  json::object generation_config;  // defaults of sampling parameters (--generation-config auto);
                                   // empty: the engine's own
  std::string root;                // path or id as given
  std::string precision;           // "Q4_1": shown on the page
  int64_t num_blocks = 0;          // for vllm:cache_config_info
  int block_size = 16;
  std::string kv_dtype;
  bool prefix_caching = true;
};

struct LoadProgress {
  std::string phase;  // "weights", "warm-up"
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  double seconds = 0.0;  // since the phase began
};

class Server {
 public:
  explicit Server(ServerConfig config);
  ~Server();

  // Binds and starts the I/O threads. The error says which address and why ("already in use").
  Result<void> start();
  int port() const;

  // Where the engine reports; outlives it. Valid from construction on.
  engine::StatsListener* stats_listener();

  void set_loading(const LoadProgress& progress);  // thread-safe; shown by /health and the page
  void set_model(ServedModel model);               // from now on /health is 200
  void set_startup_seconds(const std::string& phase,
                           double seconds);  // donar:startup_seconds{phase}
  // donar:memory_bytes{memory,use}; memory: "host" or "cuda"
  void set_memory_bytes(const std::string& memory, const std::string& use, uint64_t bytes);

  // New requests answer 503; returns at once. Streams in flight go on.
  void begin_drain();
  // Closes everything and joins. Streams that are still open end with an error object.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace donar::server
