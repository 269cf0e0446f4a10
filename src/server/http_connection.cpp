// Reading, parsing, writing and the deadlines of one connection.
#include "server/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <utility>

namespace donar::server {

namespace beast_http = boost::beast::http;

struct Connection::Parser : beast_http::request_parser<beast_http::string_body> {};

namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  const size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, size);
}

bool has_no_body(int status) { return status == 204 || status == 304 || status < 200; }

}  // namespace

Connection::Connection(Shared shared, tcp::socket socket, std::function<void(Connection*)> on_gone)
    : shared_(shared),
      socket_(std::move(socket), shared.tls),
      executor_(socket_.tcp_socket().get_executor()),
      on_gone_(std::move(on_gone)),
      changed_(executor_),
      room_(executor_),
      outgoing_(executor_),
      timer_(executor_) {
  error_code ignored;
  socket_.tcp_socket().set_option(tcp::no_delay(true), ignored);
}

void Connection::start() {
  asio::co_spawn(
      executor_, [self = shared_from_this()] { return self->run(); }, asio::detached);
}

void Connection::shutdown() {
  stopping_ = true;
  keep_alive_ = false;
  if (exchange_) exchange_->shutdown();
  if (idle_) {
    force_close();
  } else {
    changed_.notify();
  }
}

void Connection::force_close() {
  if (!open_) return;
  open_ = false;
  socket_.close();
  timer_.cancel();
  changed_.notify();
  room_.notify();
  outgoing_.notify();
  if (exchange_) exchange_->client_gone();
  on_gone_(this);
}

asio::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  set_deadline(read_deadline_, Clock::now() + shared_.config.header_timeout);
  const error_code error = co_await socket_.handshake();
  if (!error && open_) {
    asio::co_spawn(
        executor_, [self] { return self->read_loop(); }, asio::detached);
    asio::co_spawn(
        executor_, [self] { return self->write_loop(); }, asio::detached);
    co_await serve();
    while (open_ && outbox_bytes() > 0) co_await changed_.wait();
    if (open_ && (unread_body_ || unread() > 0)) co_await linger();
    socket_.shutdown_send();
  }
  force_close();
}

asio::awaitable<void> Connection::serve() {
  while (open_ && keep_alive_ && !stopping_) {
    Request request;
    const Read read = co_await read_request(request);
    if (read == Read::kClosed) co_return;
    if (read == Read::kAnswered) continue;
    read_deadline_ = kNever;
    exchange_ = std::make_shared<ConnectionExchange>(shared_from_this(), std::move(request));
    const auto exchange = exchange_;
    shared_.handler.handle(exchange);
    while (open_ && !exchange->complete() && !exchange->closed()) {
      if (eof_) {
        exchange->client_gone();  // whoever closes its side does not wait for an answer
      } else {
        co_await changed_.wait();
      }
    }
    exchange_.reset();
    if (!exchange->complete()) {
      keep_alive_ = false;
      if (exchange->streaming()) force_close();  // an unfinished body must not look finished
    }
    // The next answer waits for this one's bytes, so that pipelined requests cannot pile up
    // answers.
    while (open_ && outbox_bytes() > 0) co_await changed_.wait();
  }
}

asio::awaitable<Connection::Read> Connection::read_request(Request& request) {
  idle_ = true;
  set_deadline(read_deadline_, Clock::now() + shared_.config.idle_timeout);
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(shared_.config.max_header_bytes));
  parser.body_limit(shared_.config.max_body_bytes);
  bool have_head = false;
  while (open_) {
    while (idle_ && unread() > 0 && (in_[in_offset_] == '\r' || in_[in_offset_] == '\n'))
      ++in_offset_;  // some clients end a body with a line break too many
    if (unread() > 0) {
      if (idle_) {
        idle_ = false;
        set_deadline(read_deadline_, Clock::now() + shared_.config.header_timeout);
      }
      error_code error;
      const size_t used = parser.put(asio::const_buffer(in_.data() + in_offset_, unread()), error);
      in_offset_ += used;
      if (have_head) set_deadline(read_deadline_, Clock::now() + shared_.config.body_timeout);
      room_.notify();
      if (error && error != beast_http::error::need_more) {
        if (error == beast_http::error::body_limit) {
          refuse(413,
                 fmt::format("the body is larger than {} bytes", shared_.config.max_body_bytes));
        } else if (error == beast_http::error::header_limit) {
          refuse(431, fmt::format("the request head is larger than {} bytes",
                                  shared_.config.max_header_bytes));
        } else {
          refuse(400, fmt::format("malformed HTTP request: {}", error.message()));
        }
        co_return Read::kClosed;
      }
      if (!have_head && parser.is_header_done()) {
        have_head = true;
        const Read verdict = accept_head(parser, request);
        if (verdict != Read::kRequest) co_return verdict;
        parser.eager(true);
      }
      if (parser.is_done()) {
        request.body = std::move(parser.get().body());
        if (in_offset_ == in_.size()) {
          in_.clear();
          in_offset_ = 0;
        }
        co_return Read::kRequest;
      }
      if (used > 0 && unread() > 0) continue;
    }
    if (eof_ || stopping_) co_return Read::kClosed;
    co_await changed_.wait();
  }
  co_return Read::kClosed;
}

// Fills everything but the body, or answers the request itself.
Connection::Read Connection::accept_head(Parser& parser, Request& request) {
  const auto& head = parser.get();
  request.method = std::string(head.method_string());
  request.http_minor = static_cast<int>(head.version() % 10);
  int num_hosts = 0;
  for (const auto& field : head) {
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
    if (field.name() == beast_http::field::host) ++num_hosts;
  }
  keep_alive_ = parser.keep_alive() && !stopping_;
  std::string_view target(head.target().data(), head.target().size());
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t slash = target.find('/');
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  target = target.substr(0, target.find('#'));
  const size_t question = target.find('?');
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  auto path = percent_decode(target.substr(0, question));
  if (!path || num_hosts > 1 || (num_hosts == 0 && request.http_minor >= 1)) {
    refuse(400, !path ? "malformed HTTP request: bad percent escape in the path"
                      : "malformed HTTP request: exactly one Host header is needed");
    return Read::kClosed;
  }
  request.path = std::move(*path);
  error_code ignored;
  const tcp::endpoint peer = socket_.tcp_socket().remote_endpoint(ignored);
  request.peer = fmt::format("{}:{}", peer.address().to_string(), peer.port());

  if (auto refused = shared_.handler.check(request)) {
    if (!parser.is_done()) {
      keep_alive_ = false;
      unread_body_ = true;
    }
    const int status = refused->status;
    send_response(request, std::move(*refused));
    shared_.handler.on_complete(request, status, 0.0);
    return keep_alive_ ? Read::kAnswered : Read::kClosed;
  }
  const std::string* expect = request.header("expect");
  if (expect != nullptr && request.http_minor >= 1) {
    if (!equals_ignoring_case(*expect, "100-continue")) {
      refuse(417, "the only expectation that is supported is 100-continue");
      return Read::kClosed;
    }
    if (!parser.is_done() && unread() == 0) send("HTTP/1.1 100 Continue\r\n\r\n");
  }
  return Read::kRequest;
}

void Connection::refuse(int status, const std::string& message) {
  keep_alive_ = false;
  unread_body_ = true;
  Response response = shared_.handler.protocol_error(status, message);
  Request unknown;
  send_response(unknown, std::move(response));
  shared_.handler.on_complete(unknown, status, 0.0);
}

// Closing with unread input would reset the connection and could take our last answer with it: end
// our side, then read and forget for a short while.
asio::awaitable<void> Connection::linger() {
  discarding_ = true;
  in_.clear();
  in_offset_ = 0;
  room_.notify();
  socket_.shutdown_send();
  set_deadline(read_deadline_, Clock::now() + std::chrono::seconds(2));
  idle_ = true;
  while (open_ && !eof_) co_await changed_.wait();
}

asio::awaitable<void> Connection::read_loop() {
  const auto self = shared_from_this();
  std::string chunk(size_t{8} << 10, '\0');
  const size_t limit = kReadAhead + shared_.config.max_header_bytes;
  while (open_) {
    if (unread() >= limit) {
      co_await room_.wait();
      continue;
    }
    const IoResult got = co_await socket_.read_some(chunk.data(), chunk.size());
    if (got.error) break;
    if (discarding_) continue;
    if (in_offset_ > 0 && in_offset_ >= in_.size() / 2) {
      in_.erase(0, in_offset_);
      in_offset_ = 0;
    }
    in_.append(chunk.data(), got.bytes);
    changed_.notify();
  }
  eof_ = true;
  changed_.notify();
}

asio::awaitable<void> Connection::write_loop() {
  const auto self = shared_from_this();
  while (open_) {
    if (outbox_.empty()) {
      co_await outgoing_.wait();
      continue;
    }
    writing_.swap(outbox_);
    while (open_ && written_ < writing_.size()) {
      set_deadline(write_deadline_, Clock::now() + shared_.config.max_blocked);
      const IoResult sent =
          co_await socket_.write_some(writing_.data() + written_, writing_.size() - written_);
      if (sent.error) {
        force_close();
        co_return;
      }
      written_ += sent.bytes;
    }
    write_deadline_ = kNever;
    writing_.clear();
    written_ = 0;
    changed_.notify();
  }
}

void Connection::send(std::string_view bytes) {
  if (!open_) return;
  outbox_.append(bytes);
  outgoing_.notify();
}

void Connection::send_head(const Request& request, Response& response, bool streaming,
                           bool chunked) {
  shared_.handler.decorate(request, response);
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: donar\r\n", response.status,
                                 status_text(response.status), http_date());
  if (!has_no_body(response.status)) {
    if (!response.content_type.empty())
      head += fmt::format("Content-Type: {}\r\n", response.content_type);
    if (!streaming) head += fmt::format("Content-Length: {}\r\n", response.body.size());
    if (streaming && chunked) head += "Transfer-Encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (request.http_minor == 0) {
    head += "Connection: keep-alive\r\n";
  }
  for (const Header& header : response.headers)
    head += fmt::format("{}: {}\r\n", header.name, header.value);
  head += "\r\n";
  send(head);
}

void Connection::send_response(const Request& request, Response response) {
  send_head(request, response, /*streaming=*/false, /*chunked=*/false);
  if (request.method != "HEAD" && !has_no_body(response.status)) send(response.body);
}

// One timer serves both deadlines. Moving a deadline back costs nothing: the timer looks again when
// it fires.
void Connection::set_deadline(TimePoint& deadline, TimePoint value) {
  deadline = value;
  if (value < timer_at_) arm_timer();
}

void Connection::arm_timer() {
  timer_at_ = std::min(read_deadline_, write_deadline_);
  if (timer_at_ == kNever || !open_) return;
  timer_.expires_at(timer_at_);
  timer_.async_wait([weak = weak_from_this()](const error_code& error) {
    if (error) return;
    if (const auto self = weak.lock()) self->on_timer();
  });
}

void Connection::on_timer() {
  const TimePoint now = Clock::now();
  timer_at_ = kNever;
  if (write_deadline_ <= now) {
    force_close();
  } else if (read_deadline_ <= now) {
    read_deadline_ = kNever;
    if (idle_ || discarding_) {
      force_close();
    } else {
      refuse(408, "the request did not arrive in time");
      stopping_ = true;  // read_request() gives up
      changed_.notify();
    }
  }
  arm_timer();
}

}  // namespace donar::server
