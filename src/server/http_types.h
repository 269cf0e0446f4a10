// HTTP as routes see it: a request, a response, and the exchange of one for the other. No socket
// and no Boost in here.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace donar::server {

struct Header {
  std::string name;
  std::string value;
};

struct Request {
  std::string method;  // "GET"
  std::string path;    // percent-decoded, without the query
  std::string query;   // as sent, without the question mark
  std::vector<Header> headers;
  std::string body;
  std::string request_id;  // x-request-id as sent if it is harmless, else drawn
  std::string peer;        // "127.0.0.1:50123"
  int http_minor = 1;      // HTTP/1.x

  // First header of that name, in any case; null if there is none.
  const std::string* header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<Header> headers;  // beside content-type, content-length, date, connection
  std::string body;
};

bool equals_ignoring_case(std::string_view a, std::string_view b);
std::string_view status_text(int status);
// Decodes %xx; nullopt for a broken escape or a zero byte.
std::optional<std::string> percent_decode(std::string_view text);

// One request and the answer to it. Lives while the route works on it. Everything but post() and
// run_in_worker() belongs to the connection's own I/O thread, where routes and all callbacks run.
// Once the client is gone, answers go nowhere and closed() is true.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const Request& request() const = 0;
  virtual Request& mutable_request() = 0;
  virtual bool closed() const = 0;

  // The whole answer at once.
  virtual void respond(Response response) = 0;

  // Or in pieces: the head, any number of writes, the end. The connection stays usable afterwards.
  virtual void begin_stream(Response head) = 0;
  virtual void write(std::string_view bytes) = 0;
  virtual void end_stream() = 0;

  // Called once when the client goes away (or is too slow) before the answer was complete.
  virtual void on_close(std::function<void()> callback) = 0;
  // Called when the server stops: the callback completes the answer right now.
  virtual void on_shutdown(std::function<void()> callback) = 0;
  // Calls back once after `delay`, unless the answer is complete by then; a new call replaces the
  // old one.
  virtual void set_timer(std::chrono::milliseconds delay, std::function<void()> callback) = 0;

  // Any thread: runs the function on the connection's thread.
  virtual void post(std::function<void()> function) = 0;
  // Any thread: runs it on a worker, where slow work does not hold up other connections' streams.
  virtual void run_in_worker(std::function<void()> function) = 0;
};

// What the HTTP server asks of the application.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // With the head of a request, before its body is read: a response refuses it.
  virtual std::optional<Response> check(const Request& head) = 0;
  // Must not block; keeps the exchange for as long as it needs it.
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
  // The answer to something that is not a request: malformed, too large, too slow.
  virtual Response protocol_error(int status, const std::string& message) = 0;
  // Last look at an answer's head: request id, CORS.
  virtual void decorate(const Request& request, Response& response) = 0;
  // After the answer; status 499 if the client left before its end.
  virtual void on_complete(const Request& request, int status, double seconds) = 0;
};

}  // namespace donar::server
