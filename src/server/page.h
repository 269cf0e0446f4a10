// The chat page's files, embedded into the binary as gzip bytes (embed_page.cmake makes
// page_assets.cpp from web/dist).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "server/http_types.h"

namespace donar::server {

struct PageAsset {
  const char* path;  // "/index.html"
  const unsigned char* gzip;
  size_t gzip_bytes;
  size_t plain_bytes;
  const char* etag;  // of the plain bytes, without quotes
};

// All embedded files; empty if the build had no web/dist.
std::span<const PageAsset> page_assets();  // page_assets.cpp

// "/" is index.html. Compressed, plain or "not modified", as the request's headers say; 404 for
// what is not there.
Response serve_page(std::span<const PageAsset> assets, const Request& request);

}  // namespace donar::server
