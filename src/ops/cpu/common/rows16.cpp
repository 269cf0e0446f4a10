#include "ops/cpu/common/rows16.h"

#include <cstring>

#include "ops/cpu/common/rows16_blocks.h"
#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::ops::cpu::rows16 {
namespace {

using quant::Format;

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Plain elements: value i of a row at element index(i).
template <class T, class Index>
void scatter(const void* stored, int64_t k, std::byte* tile, Index index) {
  const auto* from = static_cast<const std::byte*>(stored);
  for (int64_t i = 0; i < k; ++i)
    std::memcpy(tile + index(i) * int64_t{sizeof(T)}, from + i * int64_t{sizeof(T)}, sizeof(T));
}
template <class T, class Index>
void gather(const std::byte* tile, int64_t k, float* values, Index index) {
  for (int64_t i = 0; i < k; ++i) {
    T value;
    std::memcpy(&value, tile + index(i) * int64_t{sizeof(T)}, sizeof(T));
    values[i] = static_cast<float>(value);
  }
}

}  // namespace

int64_t padded_k(Format format, int64_t k) {
  switch (format) {
    case Format::kF32:
    case Format::kF16:
      return round_up(k, 2);
    case Format::kBF16:
      return round_up(k, kBlock);
    case Format::kQ4_0:
    case Format::kQ4_1:
    case Format::kQ5_0:
    case Format::kQ5_1:
    case Format::kQ8_0:
      return round_up(k, kPair);
    case Format::kQ4_K:
    case Format::kQ5_K:
    case Format::kQ6_K:
      return round_up(k, quant::BlockQ6_K::kValues);
  }
  return k;
}

int64_t tile_bytes(Format format, int64_t k) {
  const int64_t padded = padded_k(format, k);
  switch (format) {
    case Format::kF32:
      return padded * kTileRows * 4;
    case Format::kF16:
    case Format::kBF16:
      return padded * kTileRows * 2;
    case Format::kQ4_0:
      return padded / kPair * kQ4_0PairBytes;
    case Format::kQ4_1:
      return padded / kPair * kQ4_1PairBytes;
    case Format::kQ5_0:
      return padded / kPair * kQ5_0PairBytes;
    case Format::kQ5_1:
      return padded / kPair * kQ5_1PairBytes;
    case Format::kQ8_0:
      return padded / kPair * kQ8_0PairBytes;
    case Format::kQ4_K:
      return padded / quant::BlockQ4_K::kValues * kQ4KSuperBytes;
    case Format::kQ5_K:
      return padded / quant::BlockQ5_K::kValues * kQ5KSuperBytes;
    case Format::kQ6_K:
      return padded / quant::BlockQ6_K::kValues * kQ6KSuperBytes;
  }
  return 0;
}

void pack_row(Format format, const void* stored, int64_t k, int lane, void* packed) {
  auto* tile = static_cast<std::byte*>(packed);
  const auto by_value = [&](int64_t i) { return i * kTileRows + lane; };
  const auto by_two = [&](int64_t i) { return (i / 2 * kTileRows + lane) * 2 + i % 2; };
  switch (format) {
    case Format::kF32:
      return scatter<float>(stored, k, tile, by_value);
    case Format::kF16:
      return scatter<f16>(stored, k, tile, by_value);
    case Format::kBF16: {
      for (int64_t i = 0; i < k / 2; ++i) {
        std::memcpy(tile + (i * kTileRows + lane) * 4,
                    static_cast<const std::byte*>(stored) + i * 4, 4);
      }
      if (k % 2 == 1)
        std::memcpy(tile + by_two(k - 1) * 2, static_cast<const std::byte*>(stored) + (k - 1) * 2,
                    2);
      return;
    }
    case Format::kQ4_0:
      return pack_q4_0(stored, k, lane, tile);
    case Format::kQ4_1:
      return pack_q4_1(stored, k, lane, tile);
    case Format::kQ5_0:
      return pack_q5_0(stored, k, lane, tile);
    case Format::kQ5_1:
      return pack_q5_1(stored, k, lane, tile);
    case Format::kQ8_0:
      return pack_q8_0(stored, k, lane, tile);
    case Format::kQ4_K:
      return pack_q4_k(stored, k, lane, tile);
    case Format::kQ5_K:
      return pack_q5_k(stored, k, lane, tile);
    case Format::kQ6_K:
      return pack_q6_k(stored, k, lane, tile);
  }
}

void unpack_row(Format format, const void* packed, int64_t k, int lane, float* values) {
  const auto* tile = static_cast<const std::byte*>(packed);
  const auto by_value = [&](int64_t i) { return i * kTileRows + lane; };
  const auto by_two = [&](int64_t i) { return (i / 2 * kTileRows + lane) * 2 + i % 2; };
  switch (format) {
    case Format::kF32:
      return gather<float>(tile, k, values, by_value);
    case Format::kF16:
      return gather<f16>(tile, k, values, by_value);
    case Format::kBF16:
      return gather<bf16>(tile, k, values, by_two);
    case Format::kQ4_0:
      return unpack_q4_0(tile, k, lane, values);
    case Format::kQ4_1:
      return unpack_q4_1(tile, k, lane, values);
    case Format::kQ5_0:
      return unpack_q5_0(tile, k, lane, values);
    case Format::kQ5_1:
      return unpack_q5_1(tile, k, lane, values);
    case Format::kQ8_0:
      return unpack_q8_0(tile, k, lane, values);
    case Format::kQ4_K:
      return unpack_q4_k(tile, k, lane, values);
    case Format::kQ5_K:
      return unpack_q5_k(tile, k, lane, values);
    case Format::kQ6_K:
      return unpack_q6_k(tile, k, lane, values);
  }
}

}  // namespace donar::ops::cpu::rows16
