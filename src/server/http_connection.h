// One connection: a coroutine that reads the socket, one that parses and hands out requests, one
// that writes. All run on one I/O thread, so nothing here is locked. Included by
// http_connection.cpp, http_exchange.cpp and http_server.cpp only.
#pragma once

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "server/http_server.h"
#include "server/http_socket.h"

namespace donar::server {

class Connection;

// The exchange that a connection is working on.
class ConnectionExchange final : public Exchange,
                                 public std::enable_shared_from_this<ConnectionExchange> {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, Request request);

  const Request& request() const override { return request_; }
  Request& mutable_request() override { return request_; }
  bool closed() const override { return gone_; }
  void respond(Response response) override;
  void begin_stream(Response head) override;
  void write(std::string_view bytes) override;
  void end_stream() override;
  void on_close(std::function<void()> callback) override;
  void on_shutdown(std::function<void()> callback) override;
  void set_timer(std::chrono::milliseconds delay, std::function<void()> callback) override;
  void post(std::function<void()> function) override;
  void run_in_worker(std::function<void()> function) override;

  bool complete() const { return complete_; }
  bool streaming() const { return streaming_; }
  void client_gone();
  void shutdown();

 private:
  void finish(int status);
  void release_callbacks();

  std::shared_ptr<Connection> connection_;
  Request request_;
  const TimePoint begin_ = Clock::now();
  std::function<void()> on_close_, on_shutdown_;
  std::optional<asio::steady_timer> timer_;
  int status_ = 0;
  bool streaming_ = false;
  bool chunked_ = false;
  bool complete_ = false;
  bool gone_ = false;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Shared {
    const HttpConfig& config;
    HttpHandler& handler;
    asio::thread_pool& workers;
    asio::ssl::context* tls;
  };

  Connection(Shared shared, tcp::socket socket, std::function<void(Connection*)> on_gone);

  void start();
  void shutdown();     // graceful: completes the open exchange, then closes
  void force_close();  // at once; the owner's on_gone is called

 private:
  friend class ConnectionExchange;
  struct Parser;  // Beast's
  static constexpr size_t kReadAhead = size_t{64} << 10;

  asio::awaitable<void> run();
  asio::awaitable<void> serve();
  asio::awaitable<void> read_loop();
  asio::awaitable<void> write_loop();
  enum class Read { kRequest, kAnswered, kClosed };
  asio::awaitable<Read> read_request(Request& request);
  asio::awaitable<void> linger();
  Read accept_head(Parser& parser, Request& request);
  void refuse(int status, const std::string& message);

  size_t unread() const { return in_.size() - in_offset_; }
  size_t outbox_bytes() const { return outbox_.size() + writing_.size() - written_; }
  void send(std::string_view bytes);
  void send_head(const Request& request, Response& response, bool streaming, bool chunked);
  void send_response(const Request& request, Response response);
  void set_deadline(TimePoint& deadline, TimePoint value);
  void arm_timer();
  void on_timer();

  Shared shared_;
  HttpSocket socket_;
  asio::any_io_executor executor_;
  std::function<void(Connection*)> on_gone_;
  std::shared_ptr<ConnectionExchange> exchange_;
  Event changed_;   // for run(): input came, the exchange is complete, the outbox is empty
  Event room_;      // for read_loop(): input was taken
  Event outgoing_;  // for write_loop()
  std::string in_;
  size_t in_offset_ = 0;
  std::string outbox_, writing_;
  size_t written_ = 0;
  bool open_ = true;
  bool eof_ = false;
  bool keep_alive_ = true;
  bool stopping_ = false;
  bool unread_body_ = false;  // refused before its body was read
  bool discarding_ = false;   // read and forget, so that the client gets to read our answer
  bool idle_ = true;          // between requests, or in a head that has not begun

  static constexpr TimePoint kNever = TimePoint::max();
  TimePoint read_deadline_ = kNever;
  TimePoint write_deadline_ = kNever;
  asio::steady_timer timer_;
  TimePoint timer_at_ = kNever;
};

}  // namespace donar::server
