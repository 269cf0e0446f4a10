// The HTTP/1.1 server: listens, reads requests within limits, hands them to one handler, writes
// answers. Boost.Asio coroutines and Beast's parser inside http_server.cpp only.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "base/error.h"
#include "server/http_types.h"

namespace donar::server {

struct HttpConfig {
  std::string host;
  int port = 0;
  int io_threads = 2;
  int worker_threads = 2;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{32} << 20;
  size_t max_outbox_bytes = size_t{1} << 20;  // of a stream; a whole response may be larger
  size_t max_connections = 4096;
  std::chrono::milliseconds header_timeout{
      30'000};  // from the first byte of a request to the end of its head
  std::chrono::milliseconds body_timeout{30'000};  // without a byte of the body
  std::chrono::milliseconds idle_timeout{75'000};  // between requests
  std::chrono::milliseconds max_blocked{30'000};   // a write without progress
  std::string ssl_certfile, ssl_keyfile;
};

class HttpServer {
 public:
  HttpServer(HttpConfig config, HttpHandler& handler);  // the handler outlives the server
  ~HttpServer();                                        // stops

  Result<void> start();
  int port() const;
  // Stops listening, completes open answers (Exchange::on_shutdown), closes and joins. Idempotent.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace donar::server
