// Weight formats as rows of one table: block layout, reference pack and unpack. Kernels hang off
// LinearWeight (linear_weight.h). Block layouts are GGUF's (ggml-org/ggml, src/ggml-common.h); rows
// are quantized along K.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace donar::quant {

enum class Format : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};
inline constexpr int kNumFormats = 11;

struct FormatInfo {
  Format format;
  std::string_view name;  // "Q4_1"
  int block_values;       // values in a block along K; 1 for plain floats
  int block_bytes;        // bytes of a block as stored in files
  uint32_t ggml_type;     // id in GGUF files
  void (*unpack)(const void* block, float* values);  // one block -> block_values floats
  void (*pack)(const float* values,
               void* block);  // reference quantizer; nullptr where there is none yet
};

std::span<const FormatInfo> formats();  // the table
const FormatInfo& info(Format format);
std::optional<Format> format_of_ggml_type(uint32_t type);

// Bytes of one stored row of k values; k must be a multiple of block_values.
inline int64_t row_bytes(Format format, int64_t k) {
  return k / info(format).block_values * info(format).block_bytes;
}
void unpack_row(Format format, const void* row, int64_t k, float* values);
void pack_row(Format format, const float* values, int64_t k, void* row);

}  // namespace donar::quant
