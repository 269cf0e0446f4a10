// The table of endpoints: method and path to function. An endpoint is a file in routes/ and a row
// in routes.cpp.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/http_types.h"
#include "server/server_state.h"

namespace donar::server {

using RouteHandler = void (*)(ServerState& state, std::shared_ptr<Exchange> exchange);

struct Route {
  const char* method;  // GET answers HEAD as well
  const char* path;    // a trailing '*' matches any rest
  RouteHandler handler;
  bool open = false;    // no API key is asked for
  bool counted = true;  // in http_requests_total
};

std::span<const Route> all_routes();

struct RouteMatch {
  const Route* route = nullptr;  // null: see `allow`
  std::string allow;             // methods of the path if the method is wrong; empty: no such path
};
RouteMatch find_route(std::string_view method, std::string_view path);

// routes/*.cpp
void handle_chat_completions(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_completions(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_models(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_model(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_tokenize(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_detokenize(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_health(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_ping(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_version(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_load(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_info(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_metrics(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_reset_prefix_cache(ServerState& state, std::shared_ptr<Exchange> exchange);
void handle_page(ServerState& state, std::shared_ptr<Exchange> exchange);

}  // namespace donar::server
