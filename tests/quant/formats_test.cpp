#include "quant/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace donar::quant {
namespace {

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<float> floats_from_hex(const std::string& hex) {
  const std::vector<uint8_t> bytes = from_hex(hex);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

const FormatInfo* find(const std::string& name) {
  for (const FormatInfo& row : formats()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

TEST(Formats, table_is_in_enum_order_and_found_by_ggml_type) {
  int i = 0;
  for (const FormatInfo& row : formats()) {
    EXPECT_EQ(static_cast<int>(row.format), i++);
    EXPECT_EQ(format_of_ggml_type(row.ggml_type), row.format) << row.name;
    EXPECT_EQ(&info(row.format), &row);
    EXPECT_EQ(row_bytes(row.format, 512), 512 / row.block_values * row.block_bytes);
  }
  EXPECT_EQ(format_of_ggml_type(15), std::nullopt) << "Q8_K is never stored";
  EXPECT_EQ(format_of_ggml_type(4), std::nullopt) << "removed type";
}

// Bytes (37 i + 11) & 255 with d = 0.5 and m = -1 or dmin = 0.25: sums and values as the reference
// unpacks them.
TEST(Formats, unpack_gives_the_values_of_the_deterministic_block) {
  struct Case {
    const char* name;
    int d_offset, m_offset;
    float first, second, at17, middle, last, sum;
    float m = -1.0f;
  };
  const Case cases[] = {
      {"Q4_0", 0, -1, -1.5f, 1.0f, -0.5f, -1.5f, 0.0f, -10.5f},
      {"Q4_1", 0, 2, 6.5f, 1.0f, 5.0f, 3.5f, 5.0f, 90.5f},
      {"Q5_0", 0, -1, 4.5f, -1.0f, 0.0f, 7.0f, 0.5f, 7.5f},
      {"Q5_1", 0, 2, 8.5f, 11.0f, 1.5f, 8.5f, 1.5f, 220.5f},
      {"Q8_0", 0, -1, 42.5f, 61.0f, -27.0f, -45.5f, -24.0f, -88.0f},
      {"Q4_K", 0, 2, 157.75f, -12.75f, -12.75f, 211.5f, 24.25f, 27220.0f, 0.25f},
      {"Q5_K", 0, 2, 405.75f, -12.75f, -12.75f, 523.5f, 54.25f, 58108.0f, 0.25f},
      {"Q6_K", 208, -1, -715.5f, 848.0f, 256.0f, -175.5f, -30.0f, 2306.0f},
  };
  for (const Case& c : cases) {
    const FormatInfo* format = find(c.name);
    ASSERT_NE(format, nullptr) << c.name;
    std::vector<uint8_t> block(static_cast<size_t>(format->block_bytes));
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint8_t>(37 * i + 11);
    const uint16_t half = f32_to_f16(0.5f);
    const uint16_t minimum = f32_to_f16(c.m);
    std::memcpy(block.data() + c.d_offset, &half, 2);
    if (c.m_offset >= 0) std::memcpy(block.data() + c.m_offset, &minimum, 2);
    std::vector<float> y(static_cast<size_t>(format->block_values));
    format->unpack(block.data(), y.data());
    float sum = 0;
    for (float value : y) sum += value;
    EXPECT_EQ(y[0], c.first) << c.name;
    EXPECT_EQ(y[1], c.second) << c.name;
    EXPECT_EQ(y[17], c.at17) << c.name;
    EXPECT_EQ(y[y.size() / 2], c.middle) << c.name;
    EXPECT_EQ(y.back(), c.last) << c.name;
    EXPECT_EQ(sum, c.sum) << c.name;
  }
}

TEST(Formats, nibble_order_and_signs_of_hand_made_blocks) {
  BlockQ4_0 q4{.d = 0x3c00, .qs = {}};
  for (int j = 0; j < 16; ++j) q4.qs[j] = static_cast<uint8_t>(j | (15 - j) << 4);
  float y[256];
  unpack_q4_0(&q4, y);
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(y[j], j - 8) << j;
    EXPECT_EQ(y[16 + j], 7 - j) << j;
  }
  BlockQ8_0 q8{.d = 0x3800, .qs = {}};
  for (int j = 0; j < 32; ++j) q8.qs[j] = static_cast<int8_t>(j - 16);
  unpack_q8_0(&q8, y);
  for (int j = 0; j < 32; ++j) EXPECT_EQ(y[j], 0.5f * static_cast<float>(j - 16)) << j;
  BlockQ6_K q6{};
  std::memset(q6.scales, 1, sizeof(q6.scales));
  q6.d = 0x3c00;
  unpack_q6_k(&q6, y);
  for (float value : y) EXPECT_EQ(value, -32.0f);
}

// Random blocks of every type (tests/data/quant/gguf_blocks.txt): unpack is exact; pack gives the
// reference's bytes.
TEST(Formats, unpack_and_pack_equal_the_reference_on_golden_blocks) {
  std::ifstream in(DONAR_TEST_DATA "/quant/gguf_blocks.txt");
  ASSERT_TRUE(in.good());
  std::vector<float> source;
  int compared = 0;
  for (std::string line; std::getline(in, line);) {
    if (line[0] == '#') continue;
    std::istringstream fields(line);
    std::string kind, type, block_hex, value_hex;
    int64_t rows = 0, k = 0;
    fields >> kind >> type >> rows >> k >> block_hex >> value_hex;
    if (kind == "source") {
      source = floats_from_hex(value_hex);
      continue;
    }
    const FormatInfo* format = find(type);
    ASSERT_NE(format, nullptr) << type;
    const std::vector<uint8_t> blocks = from_hex(block_hex);
    const std::vector<float> expected = floats_from_hex(value_hex);
    const auto stride = static_cast<size_t>(row_bytes(format->format, k));
    ASSERT_EQ(blocks.size(), stride * static_cast<size_t>(rows)) << type;
    ASSERT_EQ(expected.size(), static_cast<size_t>(rows * k)) << type;
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<float> values(static_cast<size_t>(k));
      unpack_row(format->format, &blocks[static_cast<size_t>(r) * stride], k, values.data());
      for (size_t i = 0; i < values.size(); ++i) {
        const float want = expected[static_cast<size_t>(r * k) + i];
        ASSERT_TRUE(values[i] == want || (std::isnan(values[i]) && std::isnan(want)))
            << type << " row " << r << " value " << i << ": " << values[i] << ", expected " << want;
      }
      if (kind == "quantized") {
        std::vector<uint8_t> packed(stride);
        pack_row(format->format, &source[static_cast<size_t>(r * k)], k, packed.data());
        EXPECT_EQ(std::memcmp(packed.data(), &blocks[static_cast<size_t>(r) * stride], stride), 0)
            << type << " row " << r;
      }
    }
    ++compared;
  }
  EXPECT_EQ(compared, 16) << "eleven formats, five quantizers";
}

TEST(Formats, pack_then_unpack_stays_within_half_a_step) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0.0f, 0.7f);
  // The largest error over the block's largest magnitude: half a step of the format, and the f16
  // scale's rounding.
  const std::pair<const char*, double> bounds[] = {
      {"F32", 0.0},    {"F16", 1.0 / 2048}, {"BF16", 1.0 / 256}, {"Q4_0", 0.13},
      {"Q4_1", 0.075}, {"Q5_0", 0.065},     {"Q5_1", 0.035},     {"Q8_0", 0.5 / 127 + 0.001},
      {"Q4_K", 0.1},   {"Q5_K", 0.06},      {"Q6_K", 0.04}};
  for (const auto& [name, bound] : bounds) {
    const FormatInfo* format = find(name);
    const int n = format->block_values;
    for (int trial = 0; trial < 200; ++trial) {
      std::vector<float> values(static_cast<size_t>(n)), back(static_cast<size_t>(n));
      std::vector<uint8_t> block(static_cast<size_t>(format->block_bytes));
      float largest = 0;
      for (float& value : values) {
        value = normal(generator);
        largest = std::max(largest, std::fabs(value));
      }
      format->pack(values.data(), block.data());
      format->unpack(block.data(), back.data());
      for (int i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        ASSERT_LE(std::fabs(values[at] - back[at]), bound * largest + 1e-12)
            << name << " value " << i << " of trial " << trial;
      }
    }
  }
}

TEST(Formats, packing_what_was_unpacked_keeps_the_values) {
  std::mt19937 generator(2);
  for (const FormatInfo& format : formats()) {
    if (format.block_values == 256)
      continue;  // its scales are searched: a second pass may find better ones
    std::vector<float> values(static_cast<size_t>(format.block_values)), once(values.size()),
        twice(values.size());
    std::vector<uint8_t> block(static_cast<size_t>(format.block_bytes));
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(generator);
    format.pack(values.data(), block.data());
    format.unpack(block.data(), once.data());
    format.pack(once.data(), block.data());
    format.unpack(block.data(), twice.data());
    for (size_t i = 0; i < once.size(); ++i)
      EXPECT_NEAR(twice[i], once[i], 1e-3 * std::fabs(once[i]) + 1e-3) << format.name << " " << i;
  }
}

TEST(Formats, all_zero_blocks_unpack_to_zero) {
  for (const FormatInfo& format : formats()) {
    std::vector<float> values(static_cast<size_t>(format.block_values), 0.0f);
    std::vector<uint8_t> block(static_cast<size_t>(format.block_bytes), 0xaa);
    format.pack(values.data(), block.data());
    std::fill(values.begin(), values.end(), 7.0f);
    format.unpack(block.data(), values.data());
    for (float value : values) EXPECT_EQ(value, 0.0f) << format.name;
  }
}

TEST(Formats, q6_k_values_survive_both_ways) {
  std::mt19937 generator(3);
  uint8_t q[256], back[256];
  for (uint8_t& value : q) value = static_cast<uint8_t>(generator() % 64);
  BlockQ6_K block{};
  q6_k_set_values(q, block);
  q6_k_values(block, back);
  EXPECT_EQ(std::memcmp(q, back, sizeof(q)), 0);
}

TEST(Formats, k_scales_survive_both_ways) {
  std::mt19937 generator(5);
  for (int trial = 0; trial < 20; ++trial) {
    KScales scales;
    for (uint8_t& scale : scales.scale) scale = static_cast<uint8_t>(generator() % 64);
    for (uint8_t& min : scales.min) min = static_cast<uint8_t>(generator() % 64);
    uint8_t stored[12];
    pack_k_scales(scales, stored);
    const KScales back = unpack_k_scales(stored);
    EXPECT_EQ(std::memcmp(&scales, &back, sizeof(scales)), 0) << trial;
  }
}

// Less squared error than with the whole range of a run as 15 or 31 steps, in spite of scales and
// minimums of six bits.
TEST(Formats, k_search_beats_the_naive_scale) {
  std::mt19937 generator(6);
  std::normal_distribution<float> normal;
  for (const auto& [format, top] : {std::pair(Format::kQ4_K, 15), std::pair(Format::kQ5_K, 31)}) {
    double searched = 0, naive = 0;
    std::vector<uint8_t> block(static_cast<size_t>(info(format).block_bytes));
    for (int trial = 0; trial < 50; ++trial) {
      float values[256], back[256];
      for (float& value : values) value = normal(generator);
      info(format).pack(values, block.data());
      info(format).unpack(block.data(), back);
      for (int run = 0; run < 256; run += 32) {
        const auto [low, high] = std::minmax_element(values + run, values + run + 32);
        const double step = (double{*high} - *low) / top;
        for (int i = run; i < run + 32; ++i) {
          naive += std::pow(values[i] - *low - std::nearbyint((values[i] - *low) / step) * step, 2);
          searched += std::pow(values[i] - back[i], 2);
        }
      }
    }
    EXPECT_LT(searched, 0.97 * naive) << info(format).name << ": " << searched << ", " << naive;
  }
}

// A seventh less squared error than with the naive scale extreme / 31: what the search is for (one
// candidate alone gains 3 %).
TEST(Formats, q6_k_search_beats_the_naive_scale) {
  std::mt19937 generator(4);
  std::normal_distribution<float> normal;
  double searched = 0, naive = 0;
  for (int trial = 0; trial < 50; ++trial) {
    float values[256], back[256];
    for (float& value : values) value = normal(generator);
    BlockQ6_K block;
    pack_q6_k(values, &block);
    unpack_q6_k(&block, back);
    for (int g = 0; g < 256; g += 16) {
      float extreme = 0;
      for (int i = g; i < g + 16; ++i) extreme = std::max(extreme, std::fabs(values[i]));
      for (int i = g; i < g + 16; ++i) {
        const double step = extreme / 31.0;
        naive += std::pow(values[i] - std::nearbyint(values[i] / step) * step, 2);
        searched += std::pow(values[i] - back[i], 2);
      }
    }
  }
  EXPECT_LT(searched, 0.9 * naive);
}

}  // namespace
}  // namespace donar::quant
