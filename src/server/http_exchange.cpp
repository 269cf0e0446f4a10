// A connection's current exchange: what a route may do with its request.
#include <fmt/format.h>

#include <utility>

#include "server/http_connection.h"

namespace donar::server {

ConnectionExchange::ConnectionExchange(std::shared_ptr<Connection> connection, Request request)
    : connection_(std::move(connection)), request_(std::move(request)) {}

void ConnectionExchange::respond(Response response) {
  if (complete_ || gone_) return;
  const int status = response.status;
  connection_->send_response(request_, std::move(response));
  finish(status);
}

void ConnectionExchange::begin_stream(Response head) {
  if (complete_ || gone_ || streaming_) return;
  streaming_ = true;
  status_ = head.status;
  chunked_ = request_.http_minor >= 1;
  if (!chunked_)
    connection_->keep_alive_ = false;  // HTTP/1.0: the end of the connection is the end of the body
  connection_->send_head(request_, head, /*streaming=*/true, chunked_);
}

void ConnectionExchange::write(std::string_view bytes) {
  if (!streaming_ || complete_ || gone_ || bytes.empty() || request_.method == "HEAD") return;
  if (chunked_) connection_->send(fmt::format("{:x}\r\n", bytes.size()));
  connection_->send(bytes);
  if (chunked_) connection_->send("\r\n");
  if (connection_->outbox_bytes() > connection_->shared_.config.max_outbox_bytes)
    asio::post(connection_->executor_, [slow = connection_] { slow->force_close(); });
}

void ConnectionExchange::end_stream() {
  if (!streaming_ || complete_ || gone_) return;
  if (chunked_ && request_.method != "HEAD") connection_->send("0\r\n\r\n");
  finish(status_);
}

void ConnectionExchange::on_close(std::function<void()> callback) {
  if (!complete_ && !gone_) on_close_ = std::move(callback);
}

void ConnectionExchange::on_shutdown(std::function<void()> callback) {
  if (!complete_ && !gone_) on_shutdown_ = std::move(callback);
}

void ConnectionExchange::set_timer(std::chrono::milliseconds delay,
                                   std::function<void()> callback) {
  if (complete_ || gone_) return;
  if (!timer_) timer_.emplace(connection_->executor_);
  timer_->expires_after(delay);
  timer_->async_wait(
      [weak = weak_from_this(), callback = std::move(callback)](const error_code& error) {
        if (error) return;
        const auto self = weak.lock();
        if (self && !self->complete_ && !self->gone_) callback();
      });
}

void ConnectionExchange::post(std::function<void()> function) {
  asio::post(connection_->executor_, std::move(function));
}

void ConnectionExchange::run_in_worker(std::function<void()> function) {
  asio::post(connection_->shared_.workers, std::move(function));
}

void ConnectionExchange::finish(int status) {
  complete_ = true;
  connection_->shared_.handler.on_complete(request_, status, seconds_since(begin_));
  release_callbacks();
  connection_->changed_.notify();
}

// The callbacks own whoever is calling us right now, so they die in a turn of their own.
void ConnectionExchange::release_callbacks() {
  if (timer_) timer_->cancel();
  asio::post(connection_->executor_,
             [close = std::move(on_close_), shutdown = std::move(on_shutdown_)] {});
  on_close_ = nullptr;
  on_shutdown_ = nullptr;
}

void ConnectionExchange::client_gone() {
  if (complete_ || gone_) return;
  gone_ = true;
  connection_->shared_.handler.on_complete(request_, 499, seconds_since(begin_));
  const std::function<void()> callback = std::exchange(on_close_, nullptr);
  if (callback) callback();
  release_callbacks();
  connection_->changed_.notify();
}

void ConnectionExchange::shutdown() {
  if (complete_ || gone_) return;
  const std::function<void()> callback = std::exchange(on_shutdown_, nullptr);
  if (callback) callback();
  if (!complete_ && !gone_ && !streaming_)
    respond(connection_->shared_.handler.protocol_error(503, "the server is shutting down"));
}

}  // namespace donar::server
