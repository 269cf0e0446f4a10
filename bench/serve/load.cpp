#include "serve/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cmath>
#include <memory>
#include <random>
#include <thread>

#include "serve/event_parser.h"

namespace donar::bench::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 16 * 1024;
constexpr size_t kErrorBytes = 500;  // of a reply that is no stream

// One keep-alive connection, used by one coroutine of one thread.
class Connection {
 public:
  Connection(asio::io_context& io, const LoadOptions& options,
             const tcp::resolver::results_type& addresses)
      : options_(options), addresses_(addresses), socket_(io), deadline_(io) {}

  void connect(error_code& error) {
    asio::connect(socket_, addresses_, error);
    if (!error) socket_.set_option(tcp::no_delay(true), error);
    fresh_ = true;
  }

  asio::awaitable<Record> post(std::string body) {
    const std::string request = head(body.size()) + body;
    Record record;
    record.input_tokens = options_.input_len;
    record.start = Clock::now();
    start_deadline();
    // A server may have closed a connection that was idle: only then is a second try fair.
    const bool was_used = !fresh_ && socket_.is_open();
    if (!co_await exchange(request, record) && was_used && !timed_out_) {
      record.error.clear();
      close();
      co_await exchange(request, record);
    }
    record.end = Clock::now();
    deadline_.cancel();
    if (timed_out_) record.error = fmt::format("no answer within {} s", options_.timeout_s);
    if (!record.error.empty()) close();
    check(record);
    co_return record;
  }

 private:
  std::string head(size_t body_bytes) const {
    return fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\n{}"
        "Content-Length: {}\r\n\r\n",
        options_.endpoint.host, options_.endpoint.port,
        options_.api_key.empty() ? std::string()
                                 : fmt::format("Authorization: Bearer {}\r\n", options_.api_key),
        body_bytes);
  }

  void start_deadline() {
    timed_out_ = false;
    ++turn_;
    deadline_.expires_after(std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(options_.timeout_s)));
    deadline_.async_wait([this, turn = turn_](error_code error) {
      if (error || turn != turn_) return;
      timed_out_ = true;
      close();
    });
  }

  void close() {
    error_code ignored;
    socket_.close(ignored);
  }

  // False if the server closed before it answered anything; record.error says what went wrong.
  asio::awaitable<bool> exchange(const std::string& request, Record& record) {
    if (!socket_.is_open()) {
      auto [error, where] = co_await asio::async_connect(socket_, addresses_, kAwait);
      if (error) co_return failed(record, "connect", error);
      socket_.set_option(tcp::no_delay(true), error);
    }
    fresh_ = false;
    buffer_.clear();
    events_.reset();
    if (auto [error, bytes] = co_await asio::async_write(socket_, asio::buffer(request), kAwait);
        error)
      co_return failed(record, "send", error);
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    if (auto [error, bytes] = co_await http::async_read_header(socket_, buffer_, parser, kAwait);
        error)
      co_return failed(record, "read", error);
    const bool streams = parser.get().result() == http::status::ok;
    std::string reply;
    while (!parser.is_done()) {
      parser.get().body().data = piece_.data();
      parser.get().body().size = piece_.size();
      auto [error, bytes] = co_await http::async_read_some(socket_, buffer_, parser, kAwait);
      const TimePoint now = Clock::now();
      const std::string_view piece(piece_.data(), piece_.size() - parser.get().body().size);
      if (streams)
        events_.take(piece, now, record);
      else if (reply.size() < kErrorBytes)
        reply += piece;
      if (error && error != http::error::need_buffer) {
        failed(record, "read", error);
        co_return true;
      }
    }
    if (!streams) record.error = fmt::format("HTTP {}: {}", parser.get().result_int(), reply);
    if (!parser.get().keep_alive()) close();
    co_return true;
  }

  static bool failed(Record& record, const char* what, const error_code& error) {
    record.error = fmt::format("{}: {}", what, error.message());
    return false;
  }

  void check(Record& record) const {
    if (!record.error.empty()) return;
    const auto events = static_cast<int64_t>(record.tokens.size());
    if (record.output_tokens == 0) record.output_tokens = events;  // a server without usage
    if (events == 0 || record.output_tokens != options_.output_len)
      record.error = fmt::format("{} tokens in {} events, {} were asked for", record.output_tokens,
                                 events, options_.output_len);
    else if (events > record.output_tokens)  // the last one held nothing but the finish reason
      record.tokens.resize(static_cast<size_t>(record.output_tokens));
  }

  const LoadOptions& options_;
  const tcp::resolver::results_type& addresses_;
  tcp::socket socket_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer buffer_;
  std::array<char, kReadBytes> piece_;
  EventParser events_;
  bool fresh_ = true, timed_out_ = false;
  uint64_t turn_ = 0;
};

// What the threads of one run share.
struct Run {
  const LoadOptions& options;
  uint64_t first = 0;
  std::vector<double> arrivals;
  std::atomic<size_t> next{0};
  TimePoint begin;
};

struct Thread {
  asio::io_context io{1};
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<Record> records;
};

// One stream: takes the next request as soon as it is free, and waits for its time.
asio::awaitable<void> stream(Run& run, Thread& thread, Connection& connection) {
  asio::steady_timer timer(thread.io);
  for (size_t i = run.next++; i < run.arrivals.size(); i = run.next++) {
    std::string body = request_body(run.options, run.first + i);
    const TimePoint at = run.begin + std::chrono::duration_cast<Clock::duration>(
                                         std::chrono::duration<double>(run.arrivals[i]));
    if (at > Clock::now()) {
      timer.expires_at(at);
      co_await timer.async_wait(kAwait);
    }
    thread.records.push_back(co_await connection.post(std::move(body)));
  }
}

Result<tcp::resolver::results_type> resolve(asio::io_context& io, const Endpoint& endpoint) {
  error_code error;
  tcp::resolver resolver(io);
  auto addresses = resolver.resolve(endpoint.host, endpoint.port, error);
  if (error) return fail(ErrorCode::kInvalidArgument, "{}: {}", endpoint.host, error.message());
  return addresses;
}

std::string unreachable(const Endpoint& endpoint, const error_code& error) {
  return fmt::format("no server at {}:{}: {}", endpoint.host, endpoint.port, error.message());
}

}  // namespace

Result<Endpoint> parse_url(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  std::string rest = url;
  if (rest.starts_with(kScheme))
    rest.erase(0, kScheme.size());
  else if (rest.find("://") != std::string::npos)
    return fail(ErrorCode::kInvalidArgument, "{}: expected http://HOST:PORT", url);
  if (rest.ends_with('/')) rest.pop_back();
  Endpoint out;
  const size_t colon = rest.rfind(':');
  out.host = rest.substr(0, colon);
  if (colon != std::string::npos) out.port = rest.substr(colon + 1);
  if (out.host.empty() || out.port.empty() || rest.find('/') != std::string::npos ||
      out.port.find_first_not_of("0123456789") != std::string::npos)
    return fail(ErrorCode::kInvalidArgument, "{}: expected http://HOST:PORT", url);
  return out;
}

std::string request_body(const LoadOptions& options, uint64_t index) {
  std::seed_seq seed{options.seed, options.seed >> 32, index, index >> 32};
  std::mt19937 random(seed);
  std::string body = fmt::format("{{\"model\":\"{}\",\"prompt\":[", options.model);
  body.reserve(body.size() + static_cast<size_t>(options.input_len) * 7 + 256);
  const auto range = static_cast<uint32_t>(options.max_id - options.min_id);
  for (int i = 0; i < options.input_len; ++i) {
    const fmt::format_int id(options.min_id + static_cast<int>(random() % range));
    if (i > 0) body += ',';
    body.append(id.data(), id.size());
  }
  fmt::format_to(std::back_inserter(body),
                 "],\"max_tokens\":{},\"ignore_eos\":true,\"temperature\":0,\"stream\":true,"
                 "\"stream_options\":{{\"include_usage\":true}}{}{}}}",
                 options.output_len, options.extra_json.empty() ? "" : ",", options.extra_json);
  return body;
}

std::vector<double> arrival_times(const LoadOptions& options, uint64_t first, int count) {
  std::vector<double> times(static_cast<size_t>(count), 0.0);
  if (options.request_rate <= 0) return times;
  std::seed_seq seed{options.seed, options.seed >> 32, first, uint64_t{0x5eed}};
  std::mt19937_64 random(seed);
  double at = 0.0;
  for (double& time : times) {
    time = at;
    // Not std::exponential_distribution, so that every standard library gives the same arrivals.
    const double uniform = (static_cast<double>(random() >> 11) + 0.5) * 0x1.0p-53;
    at -= std::log(uniform) / options.request_rate;
  }
  return times;
}

Result<std::vector<Record>> run_load(const LoadOptions& options, uint64_t first, int count) {
  asio::io_context resolver_io;
  Result<tcp::resolver::results_type> addresses = resolve(resolver_io, options.endpoint);
  if (!addresses) return forward_error(addresses);
  const int streams = std::min(options.concurrency, count);
  const int num_threads = std::clamp(options.threads, 1, std::max(streams, 1));
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < num_threads; ++i) threads.push_back(std::make_unique<Thread>());
  for (int i = 0; i < streams; ++i) {
    Thread& thread = *threads[static_cast<size_t>(i % num_threads)];
    thread.connections.push_back(std::make_unique<Connection>(thread.io, options, *addresses));
    error_code error;
    thread.connections.back()->connect(error);
    if (error) return fail(ErrorCode::kUnavailable, "{}", unreachable(options.endpoint, error));
  }

  Run run{options, first, arrival_times(options, first, count), {}, Clock::now()};
  for (const auto& thread : threads)
    for (const auto& connection : thread->connections)
      asio::co_spawn(thread->io, stream(run, *thread, *connection), [](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
      });
  {
    std::vector<std::jthread> others;
    for (size_t i = 1; i < threads.size(); ++i)
      others.emplace_back([&io = threads[i]->io] { io.run(); });
    threads.front()->io.run();
  }
  std::vector<Record> records;
  for (const auto& thread : threads)
    std::move(thread->records.begin(), thread->records.end(), std::back_inserter(records));
  return records;
}

Result<std::string> http_get(const Endpoint& endpoint, const std::string& path,
                             const std::string& api_key) {
  asio::io_context io;
  Result<tcp::resolver::results_type> addresses = resolve(io, endpoint);
  if (!addresses) return forward_error(addresses);
  tcp::socket socket(io);
  error_code error;
  asio::connect(socket, *addresses, error);
  if (error) return fail(ErrorCode::kUnavailable, "{}", unreachable(endpoint, error));
  http::request<http::empty_body> request(http::verb::get, path, 11);
  request.set(http::field::host, endpoint.host + ":" + endpoint.port);
  request.set(http::field::connection, "close");
  if (!api_key.empty()) request.set(http::field::authorization, "Bearer " + api_key);
  http::write(socket, request, error);
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> response;
  if (!error) http::read(socket, buffer, response, error);
  if (error) return fail(ErrorCode::kUnavailable, "GET {}: {}", path, error.message());
  if (response.result() != http::status::ok)
    return fail(ErrorCode::kUnavailable, "GET {}: HTTP {}", path, response.result_int());
  return std::move(response.body());
}

}  // namespace donar::bench::serve
