// DONAR_CHECK: an invariant of our own code. Unreachable from input; failing it ends the process
// with the place and values.
#pragma once

#include <fmt/format.h>

#include <string>

namespace donar {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& detail);
}  // namespace donar

// DONAR_CHECK(rows <= capacity, "rows {} > capacity {}", rows, capacity);
#define DONAR_CHECK(condition, ...)                                                         \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::donar::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
