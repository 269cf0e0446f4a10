// Names, keys and origins, compared.
#include "server/access.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

namespace donar::server {
namespace {

constexpr std::string_view kBearer = "Bearer ";

// "localhost:8000" -> "localhost", "[::1]:8000" -> "::1"
std::string_view host_without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view{} : host.substr(1, end - 1);
  }
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(':') == colon) host = host.substr(0, colon);
  return host;
}

// Digests have one length, so the comparison does not tell how long a key is.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned char digest_a[EVP_MAX_MD_SIZE], digest_b[EVP_MAX_MD_SIZE];
  unsigned int size_a = 0, size_b = 0;
  EVP_Digest(a.data(), a.size(), digest_a, &size_a, EVP_sha256(), nullptr);
  EVP_Digest(b.data(), b.size(), digest_b, &size_b, EVP_sha256(), nullptr);
  return CRYPTO_memcmp(digest_a, digest_b, size_a) == 0;
}

}  // namespace

bool is_loopback_name(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (equals_ignoring_case(host, "localhost") || host == "::1") return true;
  if (host.size() > 10 && equals_ignoring_case(host.substr(host.size() - 10), ".localhost"))
    return true;
  const bool dotted = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return dotted && host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3;
}

AccessRules::AccessRules(const ServerConfig& config)
    : keys_(config.api_keys),
      origins_(config.allowed_origins),
      hosts_(config.allowed_hosts),
      loopback_(is_loopback_name(config.host)),
      any_origin_(std::find(origins_.begin(), origins_.end(), "*") != origins_.end()) {
  hosts_.push_back(config.host);
}

bool AccessRules::host_allowed(const Request& request) const {
  if (!loopback_) return true;
  const std::string* header = request.header("host");
  if (header == nullptr) return true;  // HTTP/1.0; no browser
  const std::string_view host = host_without_port(*header);
  return is_loopback_name(host) ||
         std::any_of(hosts_.begin(), hosts_.end(), [&](const std::string& own) {
           return own == "*" || equals_ignoring_case(own, host);
         });
}

bool AccessRules::key_allowed(const Request& request) const {
  if (keys_.empty()) return true;
  const std::string* header = request.header("authorization");
  if (header == nullptr || header->size() < kBearer.size() ||
      !equals_ignoring_case(std::string_view(*header).substr(0, kBearer.size()), kBearer))
    return false;
  const std::string_view token = std::string_view(*header).substr(kBearer.size());
  bool found = false;
  for (const std::string& key : keys_) found = equal_in_constant_time(token, key) || found;
  return found;
}

const std::string* AccessRules::allowed_origin(const Request& request) const {
  if (origins_.empty()) return nullptr;
  const std::string* origin = request.header("origin");
  if (origin == nullptr) return nullptr;
  const bool listed =
      any_origin_ || std::find(origins_.begin(), origins_.end(), *origin) != origins_.end();
  return listed ? origin : nullptr;
}

bool AccessRules::is_preflight(const Request& request) const {
  return request.method == "OPTIONS" && allowed_origin(request) != nullptr &&
         request.header("access-control-request-method") != nullptr;
}

Response AccessRules::preflight(const Request& request) const {
  Response response;
  response.status = 204;
  response.headers.push_back({"Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"});
  if (const std::string* wanted = request.header("access-control-request-headers"))
    response.headers.push_back({"Access-Control-Allow-Headers", *wanted});
  response.headers.push_back({"Access-Control-Max-Age", "600"});
  return response;
}

void AccessRules::add_cors(const Request& request, Response& response) const {
  if (origins_.empty()) return;
  if (!any_origin_) response.headers.push_back({"Vary", "Origin"});
  const std::string* origin = allowed_origin(request);
  if (origin == nullptr) return;
  response.headers.push_back(
      {"Access-Control-Allow-Origin", any_origin_ ? std::string("*") : *origin});
  response.headers.push_back({"Access-Control-Expose-Headers", "x-request-id, retry-after"});
}

}  // namespace donar::server
