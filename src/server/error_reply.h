// Errors as clients see them: HTTP status, and vLLM's object {"error": {message, type, param,
// code}}.
#pragma once

#include <string>

#include "base/error.h"
#include "base/json.h"
#include "server/http_types.h"

namespace donar::server {

int http_status(ErrorCode code);

// The inner object, for a reply's body or for an event inside a stream.
json::object error_object(int status, const std::string& message, const std::string& param = {});

Response error_response(int status, const std::string& message, const std::string& param = {});
Response error_response(const Error& error);  // 429 and 503 carry Retry-After

}  // namespace donar::server
