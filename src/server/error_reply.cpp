// The one table from errors to HTTP statuses and names.
#include "server/error_reply.h"

#include "server/json_text.h"

namespace donar::server {
namespace {

const char* error_type(int status) {
  switch (status) {
    case 400:
      return "BadRequestError";
    case 401:
      return "AuthenticationError";
    case 403:
      return "PermissionDeniedError";
    case 404:
      return "NotFoundError";
    case 405:
      return "MethodNotAllowedError";
    case 408:
      return "RequestTimeoutError";
    case 413:
      return "PayloadTooLargeError";
    case 422:
      return "UnprocessableEntityError";
    case 429:
      return "RateLimitError";
    case 503:
      return "ServiceUnavailableError";
  }
  return status < 500 ? "BadRequestError" : "InternalServerError";
}

}  // namespace

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kUnauthenticated:
      return 401;
    case ErrorCode::kPermissionDenied:
      return 403;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kMethodNotAllowed:
      return 405;
    case ErrorCode::kPayloadTooLarge:
      return 413;
    case ErrorCode::kDataLoss:
      return 422;
    case ErrorCode::kResourceExhausted:
      return 429;
    case ErrorCode::kInternal:
      return 500;
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kUnavailable:
      return 503;
    case ErrorCode::kCancelled:
      return 499;
  }
  return 500;
}

json::object error_object(int status, const std::string& message, const std::string& param) {
  json::object error;
  error["message"] = message;
  error["type"] = error_type(status);
  error["param"] = param.empty() ? json::value(nullptr) : json::value(param);
  error["code"] = status;
  return error;
}

Response error_response(int status, const std::string& message, const std::string& param) {
  Response response;
  response.status = status;
  if (status == 429 || status == 503) response.headers.push_back({"Retry-After", "1"});
  json::object body;
  body["error"] = error_object(status, message, param);
  response.body = to_json_text(body);
  return response;
}

Response error_response(const Error& error) {
  return error_response(http_status(error.code), error.message, error.param);
}

}  // namespace donar::server
