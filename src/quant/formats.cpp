// The table of weight formats: a new format is one row here and one file beside this one.
#include "quant/format.h"

#include <cstring>
#include <iterator>

#include "base/check.h"
#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {
namespace {

template <class T>
void unpack_one(const void* block, float* values) {
  T value;
  std::memcpy(&value, block, sizeof(T));
  *values = static_cast<float>(value);
}

template <class T>
void pack_one(const float* values, void* block) {
  const T value(*values);
  std::memcpy(block, &value, sizeof(T));
}

constexpr FormatInfo kFormats[] = {
    // format, name, values, bytes, ggml type, unpack, pack; in the order of the enum
    {Format::kF32, "F32", 1, 4, 0, unpack_one<float>, pack_one<float>},
    {Format::kF16, "F16", 1, 2, 1, unpack_one<f16>, pack_one<f16>},
    {Format::kBF16, "BF16", 1, 2, 30, unpack_one<bf16>, pack_one<bf16>},
    {Format::kQ4_0, "Q4_0", BlockQ4_0::kValues, sizeof(BlockQ4_0), 2, unpack_q4_0, pack_q4_0},
    {Format::kQ4_1, "Q4_1", BlockQ4_1::kValues, sizeof(BlockQ4_1), 3, unpack_q4_1, pack_q4_1},
    {Format::kQ5_0, "Q5_0", BlockQ5_0::kValues, sizeof(BlockQ5_0), 6, unpack_q5_0, pack_q5_0},
    {Format::kQ5_1, "Q5_1", BlockQ5_1::kValues, sizeof(BlockQ5_1), 7, unpack_q5_1, pack_q5_1},
    {Format::kQ8_0, "Q8_0", BlockQ8_0::kValues, sizeof(BlockQ8_0), 8, unpack_q8_0, pack_q8_0},
    {Format::kQ4_K, "Q4_K", BlockQ4_K::kValues, sizeof(BlockQ4_K), 12, unpack_q4_k, pack_q4_k},
    {Format::kQ5_K, "Q5_K", BlockQ5_K::kValues, sizeof(BlockQ5_K), 13, unpack_q5_k, pack_q5_k},
    {Format::kQ6_K, "Q6_K", BlockQ6_K::kValues, sizeof(BlockQ6_K), 14, unpack_q6_k, pack_q6_k},
};
static_assert(std::size(kFormats) == kNumFormats);

}  // namespace

std::span<const FormatInfo> formats() { return kFormats; }

const FormatInfo& info(Format format) {
  const FormatInfo& row = kFormats[static_cast<size_t>(format)];
  DONAR_CHECK(row.format == format, "the table is not in the order of the enum");
  return row;
}

std::optional<Format> format_of_ggml_type(uint32_t type) {
  for (const FormatInfo& row : kFormats) {
    if (row.ggml_type == type) return row.format;
  }
  return std::nullopt;
}

void unpack_row(Format format, const void* row, int64_t k, float* values) {
  const FormatInfo& layout = info(format);
  DONAR_CHECK(k % layout.block_values == 0, "{} values in {}", k, layout.name);
  const auto* block = static_cast<const std::byte*>(row);
  for (int64_t i = 0; i < k; i += layout.block_values, block += layout.block_bytes) {
    layout.unpack(block, values + i);
  }
}

void pack_row(Format format, const float* values, int64_t k, void* row) {
  const FormatInfo& layout = info(format);
  DONAR_CHECK(layout.pack != nullptr && k % layout.block_values == 0, "{} values in {}", k,
              layout.name);
  auto* block = static_cast<std::byte*>(row);
  for (int64_t i = 0; i < k; i += layout.block_values, block += layout.block_bytes) {
    layout.pack(values + i, block);
  }
}

}  // namespace donar::quant
