// Ties HTTP, access rules and the routes table together, and holds what they share.
#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <random>

#include "base/log.h"
#include "server/access.h"
#include "server/error_reply.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "server/server_state.h"

namespace donar::server {
namespace {

HttpConfig http_config(const ServerConfig& config) {
  HttpConfig http;
  http.host = config.host;
  http.port = config.port;
  http.io_threads = config.io_threads;
  http.worker_threads = config.worker_threads;
  http.max_header_bytes = config.max_header_bytes;
  http.max_body_bytes = config.max_body_bytes;
  http.max_outbox_bytes = config.max_outbox_bytes;
  http.header_timeout = config.header_timeout;
  http.body_timeout = config.body_timeout;
  http.idle_timeout = config.idle_timeout;
  http.max_blocked = config.max_blocked;
  http.ssl_certfile = config.ssl_certfile;
  http.ssl_keyfile = config.ssl_keyfile;
  return http;
}

// The client's own id if it can go into a header and a log line as it is, else a new one.
std::string request_id_of(const Request& request) {
  const std::string* sent = request.header("x-request-id");
  if (sent != nullptr && !sent->empty() && sent->size() <= 128 &&
      std::all_of(sent->begin(), sent->end(), [](unsigned char c) { return std::isgraph(c) != 0; }))
    return *sent;
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", random(), random());
}

}  // namespace

Result<std::shared_ptr<const ServedModel>> ServerState::ready_model() const {
  if (draining)
    return fail(ErrorCode::kUnavailable, "the server is shutting down: it takes no new requests");
  auto served = model();
  if (served == nullptr) {
    const LoadProgress now = progress();
    if (now.total_bytes == 0)
      return fail(ErrorCode::kUnavailable, "the model is loading: try again soon");
    return fail(ErrorCode::kUnavailable, "the model is loading ({}, {:.0f} %): try again soon",
                now.phase,
                100.0 * static_cast<double>(now.done_bytes) / static_cast<double>(now.total_bytes));
  }
  if (!served->engine->healthy())
    return fail(ErrorCode::kUnavailable, "the engine has failed: the server must be restarted");
  return served;
}

Result<std::string> ServerState::served_name(const std::optional<std::string>& requested) const {
  const auto& names = config.model_names;
  const std::string first = names.empty() ? std::string() : names.front();
  if (!requested || requested->empty() ||
      std::find(names.begin(), names.end(), *requested) != names.end())
    return first;
  return tl::unexpected<Error>(
      Error{ErrorCode::kNotFound,
            fmt::format("The model `{}` does not exist. This server has `{}`.",
                        requested->substr(0, 200), first),
            "model"});
}

struct Server::Impl final : HttpHandler {
  ServerState state;
  AccessRules access;
  HttpServer http;

  explicit Impl(ServerConfig config)
      : state(std::move(config)), access(state.config), http(http_config(state.config), *this) {}

  std::optional<Response> check(const Request& head) override {
    if (!access.host_allowed(head))
      return error_response(
          403,
          "this Host is not allowed on a loopback address (protection against DNS rebinding): use "
          "localhost, or start the server with --host");
    if (access.is_preflight(head)) return access.preflight(head);
    const RouteMatch match = find_route(head.method, head.path);
    if (match.route == nullptr) {
      if (match.allow.empty())
        return error_response(404,
                              fmt::format("there is no endpoint {}", head.path.substr(0, 200)));
      Response response =
          error_response(405, fmt::format("{} does not take {}, but {}", head.path.substr(0, 200),
                                          head.method.substr(0, 20), match.allow));
      response.headers.push_back({"Allow", match.allow});
      return response;
    }
    if (!match.route->open && !access.key_allowed(head)) {
      Response response =
          error_response(401, "a valid API key is needed: Authorization: Bearer KEY");
      response.headers.push_back({"WWW-Authenticate", "Bearer"});
      return response;
    }
    return std::nullopt;
  }

  void handle(std::shared_ptr<Exchange> exchange) override {
    Request& request = exchange->mutable_request();
    if (request.request_id.empty()) request.request_id = request_id_of(request);
    const RouteMatch match = find_route(request.method, request.path);
    try {
      match.route->handler(state, exchange);
    } catch (const std::exception& error) {
      log_error("{} {}: {}", request.method, request.path, error.what());
      exchange->respond(error_response(500, "internal error: see the server's log"));
    }
  }

  Response protocol_error(int status, const std::string& message) override {
    return error_response(status, message);
  }

  void decorate(const Request& request, Response& response) override {
    if (state.config.enable_request_id_headers && !request.method.empty())
      response.headers.push_back({"X-Request-Id", request.request_id.empty()
                                                      ? request_id_of(request)
                                                      : request.request_id});
    access.add_cors(request, response);
  }

  void on_complete(const Request& request, int status, double seconds) override {
    const RouteMatch match = find_route(request.method, request.path);
    if (match.route == nullptr || match.route->counted)
      state.metrics.on_http(match.route == nullptr ? "none" : match.route->path, request.method,
                            status, seconds);
    if (state.config.log_requests)
      log_info("{} \"{} {}\" {} {:.1f} ms {}", request.peer, request.method, request.path, status,
               1e3 * seconds, request.request_id);
  }
};

Server::Server(ServerConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}

Server::~Server() { stop(); }

Result<void> Server::start() { return impl_->http.start(); }

int Server::port() const { return impl_->http.port(); }

engine::StatsListener* Server::stats_listener() { return &impl_->state.metrics; }

void Server::set_loading(const LoadProgress& progress) { impl_->state.set_progress(progress); }

void Server::set_model(ServedModel model) {
  impl_->state.metrics.set_model(model, model.engine->max_model_len());
  impl_->state.set_model(std::make_shared<const ServedModel>(std::move(model)));
}

void Server::set_startup_seconds(const std::string& phase, double seconds) {
  impl_->state.metrics.set_startup_seconds(phase, seconds);
}

void Server::set_memory_bytes(const std::string& memory, const std::string& use, uint64_t bytes) {
  impl_->state.metrics.set_memory_bytes(memory, use, bytes);
}

void Server::begin_drain() { impl_->state.draining = true; }

void Server::stop() {
  impl_->state.draining = true;
  impl_->http.stop();
  impl_->state.set_model(nullptr);
}

}  // namespace donar::server
