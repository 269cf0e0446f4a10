// bench_serve against a small server: what it sends, when it sends it, and what it makes of the
// ways in which a server fails.
#include "serve/load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "base/json.h"

namespace donar::bench::serve {
namespace {

using testing::HasSubstr;

// Answers every POST with `tokens` events, or with what `reply` says; a thread per connection.
class FakeServer {
 public:
  struct Behaviour {
    int tokens = 4;
    std::string reply;                   // not empty: sent as it is
    bool closes_when_idle = false;       // after each answer, though it said keep-alive
    std::chrono::milliseconds pause{1};  // between events
  };

  explicit FakeServer(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    socklen_t size = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] {
      for (;;) {
        const int connection = accept(listener_, nullptr, nullptr);
        if (connection < 0) return;
        workers_.emplace_back([this, connection] { serve(connection); });
      }
    });
  }
  ~FakeServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    close(listener_);
    for (std::thread& worker : workers_) worker.join();
  }

  Endpoint endpoint() const { return {"127.0.0.1", fmt::format("{}", port_)}; }
  std::vector<std::string> bodies() {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  int most_in_flight() const { return most_; }

 private:
  // The body of the next request; false at the end of the connection.
  bool read_request(int connection, std::string& pending, std::string& body) {
    char piece[4096];
    for (;;) {
      const size_t head = pending.find("\r\n\r\n");
      if (head != pending.npos) {
        const size_t field = pending.find("Content-Length: ");
        const size_t size = field < head ? std::stoul(pending.substr(field + 16)) : size_t{0};
        if (pending.size() >= head + 4 + size) {
          body = pending.substr(head + 4, size);
          pending.erase(0, head + 4 + size);
          return true;
        }
      }
      const ssize_t got = recv(connection, piece, sizeof piece, 0);
      if (got <= 0) return false;
      pending.append(piece, static_cast<size_t>(got));
    }
  }

  static void put(int connection, const std::string& text) {
    // A client that gave up is no fault.
    [[maybe_unused]] const ssize_t sent = send(connection, text.data(), text.size(), MSG_NOSIGNAL);
  }
  static void put_chunk(int connection, const std::string& text) {
    put(connection, fmt::format("{:x}\r\n{}\r\n", text.size(), text));
  }

  void serve(int connection) {
    std::string pending, body;
    while (read_request(connection, pending, body)) {
      const int now = ++in_flight_;
      for (int most = most_; most < now && !most_.compare_exchange_weak(most, now);) {
      }
      {
        const std::lock_guard lock(mutex_);
        bodies_.push_back(body);
      }
      answer(connection);
      --in_flight_;
      if (behaviour_.closes_when_idle) break;
    }
    close(connection);
  }

  void answer(int connection) {
    if (!behaviour_.reply.empty()) return put(connection, behaviour_.reply);
    put(connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < behaviour_.tokens; ++i) {
      std::this_thread::sleep_for(behaviour_.pause);
      put_chunk(connection, "data: {\"choices\":[{\"text\":\"x\"}]}\n\n");
    }
    put_chunk(connection, fmt::format("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":5,"
                                      "\"completion_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
                                      behaviour_.tokens));
    put(connection, "0\r\n\r\n");
  }

  const Behaviour behaviour_;
  int listener_ = -1, port_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> workers_;
  std::atomic<int> in_flight_{0}, most_{0};
  std::mutex mutex_;
  std::vector<std::string> bodies_;
};

LoadOptions options_for(const FakeServer& server) {
  LoadOptions options;
  options.endpoint = server.endpoint();
  options.model = "m";
  options.input_len = 5;
  options.output_len = 4;
  options.timeout_s = 20;
  return options;
}

TEST(Load, a_closed_loop_keeps_its_streams_busy_and_serves_each_request_once) {
  for (const int threads : {1, 3}) {
    FakeServer server({});
    LoadOptions options = options_for(server);
    options.concurrency = 4;
    options.threads = threads;
    const Result<std::vector<Record>> records = run_load(options, /*first=*/0, /*count=*/12);
    ASSERT_TRUE(records) << records.error().message;
    ASSERT_EQ(records->size(), 12u);
    for (const Record& record : *records) {
      EXPECT_EQ(record.error, "");
      EXPECT_EQ(record.tokens.size(), 4u);
      EXPECT_EQ(record.input_tokens, 5);
      EXPECT_LT(record.start, record.tokens.front());
      EXPECT_LE(record.tokens.back(), record.end);
    }
    const std::vector<std::string> bodies = server.bodies();
    EXPECT_EQ(std::set(bodies.begin(), bodies.end()).size(), 12u);
    EXPECT_LE(server.most_in_flight(), 4);
    EXPECT_GE(server.most_in_flight(), 2);
  }
}

TEST(Load, a_connection_that_was_closed_while_idle_is_opened_again) {
  FakeServer server({.closes_when_idle = true});
  const Result<std::vector<Record>> records = run_load(options_for(server), 0, 5);
  ASSERT_TRUE(records);
  for (const Record& record : *records) EXPECT_EQ(record.error, "");
}

TEST(Load, failures_are_results_of_their_requests) {
  FakeServer refuses({.reply = "HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nnope"});
  Result<std::vector<Record>> records = run_load(options_for(refuses), 0, 2);
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ(records->front().error, "HTTP 400: nope");

  FakeServer short_of_tokens({.tokens = 3});
  records = run_load(options_for(short_of_tokens), 0, 1);
  ASSERT_TRUE(records);
  EXPECT_EQ(records->front().error, "3 tokens in 3 events, 4 were asked for");

  FakeServer no_stream({.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"});
  records = run_load(options_for(no_stream), 0, 1);
  ASSERT_TRUE(records);
  EXPECT_THAT(records->front().error, HasSubstr("0 tokens"));

  FakeServer slow({.pause = std::chrono::milliseconds(400)});
  LoadOptions options = options_for(slow);
  options.timeout_s = 0.1;
  records = run_load(options, 0, 1);
  ASSERT_TRUE(records);
  EXPECT_EQ(records->front().error, "no answer within 0.1 s");
}

TEST(Load, no_server_is_one_error) {
  LoadOptions options;
  options.endpoint = {"127.0.0.1", "1"};
  const Result<std::vector<Record>> records = run_load(options, 0, 3);
  ASSERT_FALSE(records);
  EXPECT_THAT(records.error().message, HasSubstr("no server at 127.0.0.1:1"));
}

TEST(Load, bodies_depend_on_seed_and_index_alone_and_stay_in_range) {
  LoadOptions options;
  options.model = "m";
  options.input_len = 100;
  options.min_id = 7;
  options.max_id = 11;
  options.extra_json = "\"top_p\":0.5";
  EXPECT_EQ(request_body(options, 3), request_body(options, 3));
  EXPECT_NE(request_body(options, 3), request_body(options, 4));
  const std::string body = request_body(options, 3);
  options.seed = 1;
  EXPECT_NE(request_body(options, 3), body);
  const Result<json::value> value = parse_json(body);
  ASSERT_TRUE(value) << body;
  EXPECT_EQ(value->at("top_p").as_double(), 0.5);
  EXPECT_EQ(value->at("stream").as_bool(), true);
  std::set<int64_t> seen;
  for (const json::value& id : value->at("prompt").as_array()) seen.insert(id.as_int64());
  EXPECT_EQ(seen, (std::set<int64_t>{7, 8, 9, 10}));
}

TEST(Load, arrivals_are_a_seeded_poisson_process) {
  LoadOptions options;
  EXPECT_EQ(arrival_times(options, 0, 3), (std::vector<double>{0, 0, 0}));
  options.request_rate = 50;
  const std::vector<double> times = arrival_times(options, 0, 20000);
  EXPECT_EQ(times, arrival_times(options, 0, 20000));
  EXPECT_EQ(times.front(), 0);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_NEAR(times.back() / 20000, 1 / 50.0, 0.0006);  // 4 standard errors
  double squares = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    const double gap = (times[i] - times[i - 1]) * 50;
    squares += gap * gap;
  }
  EXPECT_NEAR(squares / 20000, 2.0, 0.13);  // the second moment of an exponential distribution
}

TEST(Load, urls_are_read_and_refused) {
  EXPECT_EQ(parse_url("http://a.example:81/")->host, "a.example");
  EXPECT_EQ(parse_url("http://a.example:81/")->port, "81");
  EXPECT_EQ(parse_url("127.0.0.1:9")->port, "9");
  EXPECT_EQ(parse_url("http://a.example")->port, "8000");
  for (const char* url : {"https://a", "http://", "http://a:b", "http://a/v1", "http://a:"})
    EXPECT_FALSE(parse_url(url)) << url;
}

}  // namespace
}  // namespace donar::bench::serve
