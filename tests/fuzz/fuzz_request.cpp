// Any bytes as the body of a chat, a completion or a tokenize request: parsed, checked and
// normalised without a crash.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/log.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/json_text.h"
#include "server/message_content.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace donar;  // NOLINT: a fuzz target has no other names
  set_log_level(LogLevel::kOff);
  const auto body = parse_json(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!body) return 0;
  const json::object generation_config{{"temperature", 0.6}, {"max_new_tokens", 100}};
  server::RequestLimits limits;
  limits.vocab_size = 1000;
  limits.generation_config = &generation_config;
  server::WarnOnce warnings;
  if (const auto chat = server::parse_chat_request(*body, limits, warnings)) {
    for (const auto format : {server::ContentFormat::kString, server::ContentFormat::kOpenAi})
      (void)server::normalize_messages(chat->messages, format, /*knows_developer=*/false);
  }
  (void)server::parse_completion_request(*body, limits, warnings);
  // What we write must be JSON again.
  if (!parse_json(server::to_json_text(*body), {.max_bytes = size_t{1} << 30, .max_depth = 128}))
    __builtin_trap();
  return 0;
}
