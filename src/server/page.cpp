// Content types, content coding and validation of the embedded files.
#include "server/page.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

#include "server/error_reply.h"

namespace donar::server {
namespace {

constexpr const char* kPolicy =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src "
    "'none'";

const char* content_type(std::string_view path) {
  struct Row {
    std::string_view ending;
    const char* type;
  };
  static constexpr Row kRows[] = {
      {".html", "text/html; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".mjs", "text/javascript; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".json", "application/json"},
      {".map", "application/json"},
      {".webmanifest", "application/manifest+json"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".ico", "image/x-icon"},
      {".webp", "image/webp"},
      {".woff2", "font/woff2"},
      {".txt", "text/plain; charset=utf-8"},
      {".wasm", "application/wasm"},
  };
  for (const Row& row : kRows)
    if (path.ends_with(row.ending)) return row.type;
  return "application/octet-stream";
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls `visit` with each element of a comma-separated list.
template <class Visit>
void for_each_element(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    visit(trimmed(list.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

// RFC 9110: "gzip;q=0" refuses, "*" stands for all that are not named.
bool accepts_gzip(const std::string* header) {
  if (header == nullptr) return false;
  int named = -1, any = -1;
  for_each_element(*header, [&](std::string_view element) {
    const size_t semicolon = element.find(';');
    const std::string_view coding = trimmed(element.substr(0, semicolon));
    bool wanted = true;
    if (semicolon != std::string_view::npos) {
      const std::string_view weight = trimmed(element.substr(semicolon + 1));
      if (weight.starts_with("q=") || weight.starts_with("Q="))
        wanted = std::strtod(std::string(weight.substr(2)).c_str(), nullptr) > 0.0;
    }
    if (equals_ignoring_case(coding, "gzip")) named = wanted ? 1 : 0;
    if (coding == "*") any = wanted ? 1 : 0;
  });
  return named >= 0 ? named == 1 : any == 1;
}

bool not_modified(const std::string* header, std::string_view etag) {
  if (header == nullptr) return false;
  bool found = false;
  for_each_element(*header, [&](std::string_view element) {
    if (element.starts_with("W/")) element.remove_prefix(2);
    found = found || element == "*" || element == etag;
  });
  return found;
}

std::string gunzip(const PageAsset& asset) {
  std::string plain(asset.plain_bytes, '\0');
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return {};
  stream.next_in = const_cast<unsigned char*>(asset.gzip);
  stream.avail_in = static_cast<unsigned int>(asset.gzip_bytes);
  stream.next_out = reinterpret_cast<unsigned char*>(plain.data());
  stream.avail_out = static_cast<unsigned int>(plain.size());
  inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return plain;
}

}  // namespace

Response serve_page(std::span<const PageAsset> assets, const Request& request) {
  const std::string_view path =
      request.path == "/" ? "/index.html" : std::string_view(request.path);
  const auto asset = std::find_if(assets.begin(), assets.end(),
                                  [&](const PageAsset& a) { return path == a.path; });
  if (asset == assets.end()) {
    if (request.path == "/" && assets.empty())
      return error_response(
          404, "this build carries no chat page (web/dist was missing); the API is at /v1");
    return error_response(404, fmt::format("there is nothing at {}", request.path.substr(0, 200)));
  }
  Response response;
  response.content_type = content_type(path);
  // A weak tag: the same for the compressed and the plain form.
  response.headers = {
      {"ETag", fmt::format("W/\"{}\"", asset->etag)},
      {"Cache-Control", "no-cache"},  // file names carry no hash: ask each time, mostly for a 304
      {"Vary", "Accept-Encoding"},
      {"Content-Security-Policy", kPolicy},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"}};
  if (not_modified(request.header("if-none-match"), fmt::format("\"{}\"", asset->etag))) {
    response.status = 304;
    return response;
  }
  if (accepts_gzip(request.header("accept-encoding"))) {
    response.headers.push_back({"Content-Encoding", "gzip"});
    response.body.assign(reinterpret_cast<const char*>(asset->gzip), asset->gzip_bytes);
  } else {
    response.body = gunzip(*asset);
  }
  return response;
}

}  // namespace donar::server
