// The byte-to-character map of byte-level vocabularies: printable bytes stand for themselves, the
// other 68 for U+0100...
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace donar::text {

// Code point that spells `byte`.
constexpr uint32_t byte_level_code(uint8_t byte) {
  const auto plain = [](uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  if (plain(byte)) return byte;
  uint32_t code = 0x100;
  for (uint32_t b = 0; b < byte; ++b) code += !plain(b);
  return code;
}

// `bytes` spelled in characters of the map.
void append_byte_level(std::string_view bytes, std::string& out);

// The bytes that `token` spells; the token itself if it has a character outside the map.
std::string byte_level_bytes(std::string_view token);

// Whether every character of `token` is in the map.
bool is_byte_level(std::string_view token);

}  // namespace donar::text
