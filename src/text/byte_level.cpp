// Both directions of the byte-level map, from tables computed at compile time.
#include "text/byte_level.h"

#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr uint32_t kCodeLimit = 0x100 + 68;

constexpr auto kCodeOfByte = [] {
  std::array<uint16_t, 256> codes{};
  for (uint32_t b = 0; b < 256; ++b) codes[b] = static_cast<uint16_t>(byte_level_code(b));
  return codes;
}();

constexpr auto kByteOfCode = [] {
  std::array<int16_t, kCodeLimit> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (uint32_t b = 0; b < 256; ++b) bytes[kCodeOfByte[b]] = static_cast<int16_t>(b);
  return bytes;
}();

// Appends the bytes; false at the first character outside the map.
bool append_bytes(std::string_view token, std::string& out) {
  for (size_t at = 0; at < token.size();) {
    const Utf8Step step = next_utf8(token.substr(at));
    if (step.state != Utf8State::kValid) return false;
    const uint32_t code = character_at(token.data() + at).code;
    if (code >= kCodeLimit || kByteOfCode[code] < 0) return false;
    out += static_cast<char>(kByteOfCode[code]);
    at += step.length;
  }
  return true;
}

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) append_utf8(kCodeOfByte[static_cast<uint8_t>(byte)], out);
}

std::string byte_level_bytes(std::string_view token) {
  std::string bytes;
  if (!append_bytes(token, bytes)) return std::string(token);
  return bytes;
}

bool is_byte_level(std::string_view token) {
  std::string bytes;
  return append_bytes(token, bytes);
}

}  // namespace donar::text
