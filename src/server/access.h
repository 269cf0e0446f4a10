// Who may ask: Host header on loopback (DNS rebinding), API keys, browsers' origins (CORS).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_types.h"
#include "server/server.h"

namespace donar::server {

class AccessRules {
 public:
  explicit AccessRules(const ServerConfig& config);

  // A page of another site can point its own name at 127.0.0.1; its requests then carry that name
  // as Host.
  bool host_allowed(const Request& request) const;
  // Compares with every key in constant time. True if no keys are set.
  bool key_allowed(const Request& request) const;

  bool is_preflight(const Request& request) const;
  Response preflight(const Request& request) const;
  // Access-Control headers of a normal answer, if its origin is allowed.
  void add_cors(const Request& request, Response& response) const;

 private:
  const std::string* allowed_origin(const Request& request) const;

  std::vector<std::string> keys_, origins_, hosts_;
  bool loopback_;
  bool any_origin_;
};

// "127.0.0.1", "localhost", "::1" and the like: reachable from this machine only.
bool is_loopback_name(std::string_view host);

}  // namespace donar::server
