// A TCP socket, with TLS or without: one interface of awaitables. Included by http_connection.h
// only.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

namespace donar::server {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

inline constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

struct IoResult {
  error_code error;
  size_t bytes = 0;
};

class HttpSocket {
 public:
  HttpSocket(tcp::socket socket, asio::ssl::context* tls) : tls_(tls != nullptr) {
    if (tls_) {
      stream_ = std::make_unique<asio::ssl::stream<tcp::socket>>(std::move(socket), *tls);
    } else {
      plain_.emplace(std::move(socket));
    }
  }

  tcp::socket& tcp_socket() { return tls_ ? stream_->next_layer() : *plain_; }
  bool tls() const { return tls_; }

  asio::awaitable<IoResult> read_some(void* data, size_t size) {
    const asio::mutable_buffer buffer(data, size);
    IoResult result;
    if (tls_) {
      std::tie(result.error, result.bytes) = co_await stream_->async_read_some(buffer, kAwait);
    } else {
      std::tie(result.error, result.bytes) = co_await plain_->async_read_some(buffer, kAwait);
    }
    co_return result;
  }

  asio::awaitable<IoResult> write_some(const void* data, size_t size) {
    const asio::const_buffer buffer(data, size);
    IoResult result;
    if (tls_) {
      std::tie(result.error, result.bytes) = co_await stream_->async_write_some(buffer, kAwait);
    } else {
      std::tie(result.error, result.bytes) = co_await plain_->async_write_some(buffer, kAwait);
    }
    co_return result;
  }

  asio::awaitable<error_code> handshake() {
    error_code error;
    if (tls_)
      std::tie(error) = co_await stream_->async_handshake(asio::ssl::stream_base::server, kAwait);
    co_return error;
  }

  void shutdown_send() {
    error_code ignored;
    tcp_socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  void close() {
    error_code ignored;
    tcp_socket().close(ignored);
  }

 private:
  bool tls_;
  std::optional<tcp::socket> plain_;
  std::unique_ptr<asio::ssl::stream<tcp::socket>> stream_;
};

// Lets one coroutine sleep until another one of the same thread says that something changed.
class Event {
 public:
  explicit Event(const asio::any_io_executor& executor)
      : timer_(executor, std::chrono::steady_clock::time_point::max()) {}
  void notify() { timer_.cancel(); }
  asio::awaitable<void> wait() { co_await timer_.async_wait(kAwait); }

 private:
  asio::steady_timer timer_;
};

}  // namespace donar::server
