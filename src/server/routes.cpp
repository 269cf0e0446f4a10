// The table.
#include "server/routes.h"

#include <array>

namespace donar::server {
namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", handle_chat_completions},
    {"POST", "/v1/completions", handle_completions},
    {"GET", "/v1/models", handle_models},
    {"GET", "/v1/models/*", handle_model},
    {"POST", "/tokenize", handle_tokenize},
    {"POST", "/detokenize", handle_detokenize},
    {"GET", "/health", handle_health, /*open=*/true, /*counted=*/false},
    {"GET", "/health/ready", handle_health, /*open=*/true, /*counted=*/false},
    {"GET", "/ping", handle_ping, /*open=*/true, /*counted=*/false},
    {"POST", "/ping", handle_ping, /*open=*/true, /*counted=*/false},
    {"GET", "/version", handle_version, /*open=*/false, /*counted=*/false},
    {"GET", "/load", handle_load, /*open=*/false, /*counted=*/false},
    {"GET", "/metrics", handle_metrics, /*open=*/false, /*counted=*/false},
    {"GET", "/donar/info", handle_info, /*open=*/false, /*counted=*/false},
    {"POST", "/reset_prefix_cache", handle_reset_prefix_cache},
    {"GET", "/*", handle_page, /*open=*/true},  // the page and its files; last
};

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return pattern == path;
  pattern.remove_suffix(1);
  return path.starts_with(pattern) && (pattern == "/" || path.size() > pattern.size());
}

bool answers(const Route& route, std::string_view method) {
  const std::string_view own = route.method;
  return own == method || (own == "GET" && method == "HEAD");
}

}  // namespace

std::span<const Route> all_routes() { return kRoutes; }

RouteMatch find_route(std::string_view method, std::string_view path) {
  // The API under /v1 never falls through to the page's files.
  RouteMatch match;
  for (const Route& route : kRoutes) {
    if (!matches(route.path, path)) continue;
    const bool catch_all = std::string_view(route.path) == "/*";
    if (catch_all && (!match.allow.empty() || path.starts_with("/v1/"))) continue;
    if (answers(route, method)) {
      match.route = &route;
      match.allow.clear();
      return match;
    }
    // A wrong method on a path that only the page could have is a wrong path.
    if (catch_all && path != "/") continue;
    if (!match.allow.empty()) match.allow += ", ";
    match.allow += route.method;
    if (std::string_view(route.method) == "GET") match.allow += ", HEAD";
  }
  return match;
}

}  // namespace donar::server
