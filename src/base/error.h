// Expected failures are values: Result<T> carries either a T or an Error that says what to do about
// it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace donar {

// A short list that maps one to one to an HTTP status (server/error_reply.h).
enum class ErrorCode {
  kInvalidArgument,    // 400  the caller sent something wrong
  kUnauthenticated,    // 401  missing or wrong key
  kPermissionDenied,   // 403  not allowed here (Host check, unreadable file)
  kNotFound,           // 404  unknown model, route or file
  kMethodNotAllowed,   // 405
  kPayloadTooLarge,    // 413  body, prompt or depth over a limit
  kDataLoss,           // 422  a file is torn, truncated or malformed
  kResourceExhausted,  // 429  the inbox is full
  kInternal,           // 500  our own failure
  kUnsupported,        // 400 to clients, "not supported yet" to users
  kUnavailable,        // 503  loading or draining
  kCancelled,          // 499  the caller went away
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // one sentence for the user: what is wrong, expected and found, what to do
  std::string param;    // the request field or flag at fault; empty if none
};

template <class T>
using Result = tl::expected<T, Error>;

// return fail(ErrorCode::kDataLoss, "{}: header too small", path);
template <class... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

// if (!result) return forward_error(result);
template <class T>
tl::unexpected<Error> forward_error(Result<T>& result) {
  return tl::unexpected<Error>(std::move(result.error()));
}

}  // namespace donar
