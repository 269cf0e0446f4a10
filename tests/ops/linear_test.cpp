#include "ops/linear.h"

#include "ops/embedding.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

using quant::Format;
using quant::Layout;

// A matrix packed for the CPU, with room beyond its bytes that must stay as it was.
struct Packed {
  explicit Packed(const reference::StoredMatrix& stored, bool with_bias = false)
      : bytes(
            static_cast<size_t>(packed_bytes(stored.format, Layout::kRows16, stored.n, stored.k))),
        bias(reference::random_floats(stored.n, 99)) {
    // In two pieces, as a loader does.
    const int64_t split = std::min<int64_t>(stored.n, stored.n / 32 * 16);
    repack_rows(stored.format, Layout::kRows16, stored.n, stored.k, 0, split, stored.row(0),
                bytes.data());
    repack_rows(stored.format, Layout::kRows16, stored.n, stored.k, split, stored.n - split,
                stored.row(split), bytes.data());
    weight = {stored.format, Layout::kRows16, stored.n,
              stored.k,      bytes.data(),    with_bias ? bias.data() : nullptr};
  }
  std::vector<std::byte> bytes;
  std::vector<float> bias;
  quant::LinearWeight weight;
};

struct Shape {
  int64_t n, k;
};

std::vector<Shape> shapes_of(Format format) {
  switch (format) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
      return {{1, 1}, {16, 2}, {17, 33}, {48, 64}, {50, 129}};
    case Format::kQ4_K:
    case Format::kQ5_K:
    case Format::kQ6_K:
      return {{1, 256}, {33, 256}, {48, 512}};
    default:
      return {{1, 32}, {17, 64}, {48, 96}, {50, 576}};
  }
}

std::string name_of(Format format, CpuIsa isa, int64_t n, int64_t k, int64_t rows) {
  return fmt::format("{} {} n {} k {} rows {}", quant::info(format).name, cpu_isa_name(isa), n, k,
                     rows);
}

TEST(Linear, equals_the_reference_for_every_format_isa_shape_and_row_count) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const Format format = row_of_table.format;
    for (const Shape& shape : shapes_of(format)) {
      const reference::StoredMatrix stored = reference::random_matrix(format, shape.n, shape.k, 1);
      const Packed packed(stored, /*with_bias=*/shape.n % 2 == 1);
      std::vector<std::vector<float>> weights;
      for (int64_t i = 0; i < shape.n; ++i) weights.push_back(stored.row_values(i));
      for (int64_t rows : {1, 2, 3, 7, 8, 13, 21, 32}) {
        std::vector<float> x = reference::random_floats(rows * shape.k, 2);
        for (CpuIsa isa : available_isas()) {
          Device device(isa, /*threads=*/2);
          std::vector<float> y = poisoned(rows * shape.n);
          quant::LinearGroup group{{packed.weight}, 1};
          linear(device.ex, view(x, {rows, shape.k}), group, view(y, {rows, shape.n}));
          Worst worst;
          for (int64_t r = 0; r < rows; ++r) {
            const auto input =
                reference::rounded_input(&x[static_cast<size_t>(r * shape.k)], shape.k, format);
            for (int64_t i = 0; i < shape.n; ++i) {
              const reference::Sum sum = reference::dot(input, weights[static_cast<size_t>(i)]);
              const double bias =
                  packed.weight.bias != nullptr ? double{packed.bias[static_cast<size_t>(i)]} : 0.0;
              // Blocks with an offset or a minimum pass larger numbers than their result: Q4_1's
              // minimum is about 7.5 steps away.
              const double tolerance =
                  6e-8 * (8 + std::sqrt(double(shape.k))) * (4 * sum.magnitude + std::fabs(bias)) +
                  1e-6;
              worst.add(r, i, y[static_cast<size_t>(r * shape.n + i)], sum.value + bias, tolerance);
            }
          }
          worst.expect_within(name_of(format, isa, shape.n, shape.k, rows));
        }
      }
    }
  }
}

TEST(Linear, a_row_is_bitwise_the_same_alone_and_among_others) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const int64_t n = 40, k = 512, rows = 47;
    const Packed packed(reference::random_matrix(row_of_table.format, n, k, 3), /*with_bias=*/true);
    const quant::LinearGroup group{{packed.weight}, 1};
    std::vector<float> x = reference::random_floats(rows * k, 4);
    for (CpuIsa isa : available_isas()) {
      Device device(isa);
      std::vector<float> together = poisoned(rows * n);
      linear(device.ex, view(x, {rows, k}), group, view(together, {rows, n}));
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> one(x.begin() + r * k, x.begin() + (r + 1) * k);
        std::vector<float> alone = poisoned(n);
        linear(device.ex, view(one, {1, k}), group, view(alone, {1, n}));
        ASSERT_TRUE(same_bits(alone.data(), &together[static_cast<size_t>(r * n)], n))
            << name_of(row_of_table.format, isa, n, k, rows) << ", row " << r;
      }
    }
  }
}

// Enough rows and values of k for every stretch that a kernel takes at a time, with a rest of each.
TEST(Linear, a_row_among_hundreds_is_bitwise_the_row_alone) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const int64_t n = 72, k = 2816, rows = 301;
    const Packed packed(reference::random_matrix(row_of_table.format, n, k, 19),
                        /*with_bias=*/true);
    const quant::LinearGroup group{{packed.weight}, 1};
    std::vector<float> x = reference::random_floats(rows * k, 20);
    for (CpuIsa isa : available_isas()) {
      if (isa == CpuIsa::kPortable) continue;  // has one kernel for any number of rows, and is slow
      Device device(isa, /*threads=*/2);
      std::vector<float> together = poisoned(rows * n);
      linear(device.ex, view(x, {rows, k}), group, view(together, {rows, n}));
      for (int64_t r : {0, 15, 16, 63, 200, 255, 256, 287, 288, 295, 296, 299, 300}) {
        std::vector<float> alone = poisoned(n);
        linear(device.ex, view(x, {rows, k}).rows(r, 1), group, view(alone, {1, n}));
        ASSERT_TRUE(same_bits(alone.data(), &together[static_cast<size_t>(r * n)], n))
            << name_of(row_of_table.format, isa, n, k, rows) << ", row " << r;
      }
    }
  }
}

TEST(Linear, the_number_of_threads_does_not_change_a_bit) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const int64_t n = 200, k = 256;
    const Packed packed(reference::random_matrix(row_of_table.format, n, k, 5));
    const quant::LinearGroup group{{packed.weight}, 1};
    for (int64_t rows : {9, 19}) {
      std::vector<float> x = reference::random_floats(rows * k, 6);
      for (CpuIsa isa : available_isas()) {
        std::vector<float> expected;
        for (int threads : {1, 2, 3, 5}) {
          Device device(isa, threads);
          std::vector<float> y = poisoned(rows * n);
          linear(device.ex, view(x, {rows, k}), group, view(y, {rows, n}));
          if (threads == 1) expected = y;
          EXPECT_TRUE(same_bits(y.data(), expected.data(), rows * n))
              << name_of(row_of_table.format, isa, n, k, rows);
        }
      }
    }
  }
}

TEST(Linear, a_group_of_mixed_formats_equals_its_parts_side_by_side) {
  const int64_t k = 256, most_rows = 21;
  const Packed a(reference::random_matrix(Format::kQ4_0, 33, k, 7));
  const Packed b(reference::random_matrix(Format::kQ6_K, 16, k, 8), /*with_bias=*/true);
  const Packed c(reference::random_matrix(Format::kBF16, 20, k, 9));
  const Packed d(reference::random_matrix(Format::kQ4_0, 18, k, 10), /*with_bias=*/true);
  // Formats with minimums read what was rounded for another part, the first or a later one.
  const Packed e(reference::random_matrix(Format::kQ4_K, 35, k, 19));
  const Packed f(reference::random_matrix(Format::kQ5_K, 17, k, 20), /*with_bias=*/true);
  const std::vector<float> all = reference::random_floats(most_rows * k, 11);
  for (const auto& parts :
       {std::array{&a, &b, &c}, std::array{&a, &b, &d}, std::array{&d, &c, &a},
        std::array{&e, &f, &b}, std::array{&b, &e, &a}, std::array{&e, &a, &b}}) {
    quant::LinearGroup group;
    for (const Packed* part : parts) group.parts[static_cast<size_t>(group.count++)] = part->weight;
    for (int64_t rows : {int64_t{5}, most_rows}) {
      std::vector<float> x(all.begin(), all.begin() + rows * k);
      for (CpuIsa isa : available_isas()) {
        Device device(isa, /*threads=*/2);
        // Columns of a wider buffer: the row stride is not the width.
        const int64_t stride = group.n() + 5;
        std::vector<float> y = poisoned(rows * stride);
        linear(device.ex, view(x, {rows, k}), group, view(y, {rows, stride}).columns(0, group.n()));
        int64_t column = 0;
        for (const Packed* part : parts) {
          const quant::LinearGroup single{{part->weight}, 1};
          const int64_t n = part->weight.n;
          std::vector<float> expected = poisoned(rows * n);
          linear(device.ex, view(x, {rows, k}), single, view(expected, {rows, n}));
          for (int64_t r = 0; r < rows; ++r) {
            EXPECT_TRUE(same_bits(&y[static_cast<size_t>(r * stride + column)],
                                  &expected[static_cast<size_t>(r * n)], n))
                << cpu_isa_name(isa) << " row " << r << " from column " << column;
          }
          column += n;
        }
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = group.n(); i < stride; ++i) {
            EXPECT_TRUE(std::isnan(y[static_cast<size_t>(r * stride + i)]))
                << "written beyond the outputs";
          }
        }
      }
    }
  }
}

// A single block is one integer sum times two scales: nothing that could round differently.
TEST(Linear, integer_sums_are_the_same_on_every_instruction_set) {
  for (Format format : {Format::kQ4_0, Format::kQ5_0, Format::kQ8_0}) {
    const int64_t n = 37, k = 32;
    const Packed packed(reference::random_matrix(format, n, k, 21));
    const quant::LinearGroup group{{packed.weight}, 1};
    for (int64_t rows : {1, 2, 7, 16, 40}) {
      std::vector<float> x = reference::random_floats(rows * k, 22);
      std::vector<float> expected;
      for (CpuIsa isa : available_isas()) {
        Device device(isa);
        std::vector<float> y = poisoned(rows * n);
        linear(device.ex, view(x, {rows, k}), group, view(y, {rows, n}));
        if (expected.empty()) expected = y;
        EXPECT_TRUE(same_bits(y.data(), expected.data(), rows * n))
            << name_of(format, isa, n, k, rows);
      }
    }
  }
}

TEST(Linear, zero_rows_and_zero_and_extreme_inputs_work) {
  const int64_t n = 20, k = 64;
  for (Format format :
       {Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0}) {
    const reference::StoredMatrix stored = reference::random_matrix(format, n, k, 12);
    const Packed packed(stored);
    const quant::LinearGroup group{{packed.weight}, 1};
    for (CpuIsa isa : available_isas()) {
      Device device(isa);
      std::vector<float> none;
      linear(device.ex, view(none, {0, k}), group, view(none, {0, n}));
      std::vector<float> x(static_cast<size_t>(3 * k), 0.0f);
      for (int64_t i = 0; i < k;
           ++i) {  // the largest integers of both signs, one huge and one tiny block
        x[static_cast<size_t>(k + i)] = i % 2 == 0 ? 5.0f : -5.0f;
        x[static_cast<size_t>(2 * k + i)] = i < 32 ? 1e30f : 1e-30f;
      }
      std::vector<float> y = poisoned(3 * n);
      linear(device.ex, view(x, {3, k}), group, view(y, {3, n}));
      Worst worst;
      for (int64_t r = 0; r < 3; ++r) {
        const auto input = reference::rounded_input(&x[static_cast<size_t>(r * k)], k, format);
        for (int64_t i = 0; i < n; ++i) {
          const reference::Sum sum = reference::dot(input, stored.row_values(i));
          worst.add(r, i, y[static_cast<size_t>(r * n + i)], sum.value,
                    4e-6 * sum.magnitude + 1e-9);
        }
      }
      worst.expect_within(name_of(format, isa, n, k, 3));
    }
  }
}

// Weights at the ends of their range times inputs at the ends of theirs: where 16-bit sums would
// saturate.
TEST(Linear, extreme_integers_do_not_saturate) {
  const int64_t n = 16, k = 256;
  for (Format format : {Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0,
                        Format::kQ4_K, Format::kQ5_K, Format::kQ6_K}) {
    std::vector<float> values(static_cast<size_t>(k));
    reference::StoredMatrix stored{
        format, n, k, std::vector<std::byte>(static_cast<size_t>(n * quant::row_bytes(format, k)))};
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < k; ++j)
        values[static_cast<size_t>(j)] =
            (j + i) % (i + 1) == 0 ? -1.0f : (i % 2 == 0 ? 1.0f : -1.0f);
      quant::pack_row(format, values.data(), k,
                      stored.bytes.data() + i * quant::row_bytes(format, k));
    }
    const Packed packed(stored);
    const quant::LinearGroup group{{packed.weight}, 1};
    for (float sign : {1.0f, -1.0f}) {
      std::vector<float> x(static_cast<size_t>(k), sign);
      for (CpuIsa isa : available_isas()) {
        Device device(isa);
        std::vector<float> y = poisoned(n);
        linear(device.ex, view(x, {1, k}), group, view(y, {1, n}));
        Worst worst;
        for (int64_t i = 0; i < n; ++i) {
          const reference::Sum sum =
              reference::dot(reference::rounded_input(x.data(), k, format), stored.row_values(i));
          worst.add(0, i, y[static_cast<size_t>(i)], sum.value, 1e-5 * sum.magnitude);
        }
        worst.expect_within(name_of(format, isa, n, k, 1));
      }
    }
  }
}

TEST(Linear, more_rows_than_one_pass_rounds_equal_the_rows_alone) {
  const int64_t n = 16, k = 64, rows = 2061;
  const Packed packed(reference::random_matrix(Format::kQ4_1, n, k, 17));
  const quant::LinearGroup group{{packed.weight}, 1};
  std::vector<float> x = reference::random_floats(rows * k, 18);
  Device device(available_isas().back(), /*threads=*/2,
                linear_workspace_bytes(DeviceType::kCpu, rows, k));
  std::vector<float> y = poisoned(rows * n);
  linear(device.ex, view(x, {rows, k}), group, view(y, {rows, n}));
  for (int64_t r : {0, 1023, 1024, 2047, 2048, 2060}) {
    std::vector<float> alone = poisoned(n);
    linear(device.ex, view(x, {rows, k}).rows(r, 1), group, view(alone, {1, n}));
    EXPECT_TRUE(same_bits(alone.data(), &y[static_cast<size_t>(r * n)], n)) << "row " << r;
  }
}

TEST(Linear, workspace_is_what_it_says) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const int64_t n = 16, k = std::max(row_of_table.block_values, 96), rows = 37;
    const Packed packed(reference::random_matrix(row_of_table.format, n, k, 13));
    std::vector<float> x = reference::random_floats(rows * k, 14);
    std::vector<float> y = poisoned(rows * n);
    Device device(CpuIsa::kPortable, /*threads=*/1,
                  linear_workspace_bytes(DeviceType::kCpu, rows, k));
    linear(device.ex, view(x, {rows, k}), {{packed.weight}, 1},
           view(y, {rows, n}));  // dies if the arena is too small
    EXPECT_FALSE(std::isnan(y.back()));
  }
}

TEST(Rows16, unpacks_every_row_exactly_and_stays_near_the_files_size) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    for (const Shape& shape : shapes_of(row_of_table.format)) {
      const reference::StoredMatrix stored =
          reference::random_matrix(row_of_table.format, shape.n, shape.k, 15);
      const Packed packed(stored);
      for (int64_t i = 0; i < shape.n; ++i) {
        std::vector<float> values = poisoned(shape.k);
        unpack_packed_row(packed.weight, i, values.data());
        ASSERT_TRUE(same_bits(values.data(), stored.row_values(i).data(), shape.k))
            << row_of_table.name << " row " << i;
      }
    }
    const double file = double(2048 * quant::row_bytes(row_of_table.format, 2048));
    EXPECT_LE(double(packed_bytes(row_of_table.format, Layout::kRows16, 2048, 2048)), file * 1.01)
        << row_of_table.name;
  }
}

TEST(Embedding, equals_the_unpacked_rows_in_both_layouts) {
  for (const quant::FormatInfo& row_of_table : quant::formats()) {
    const int64_t n = 70, k = 256;
    reference::StoredMatrix stored = reference::random_matrix(row_of_table.format, n, k, 16);
    const Packed packed(stored);
    const quant::LinearWeight row_major{stored.format, Layout::kRowMajor, n, k, stored.bytes.data(),
                                        nullptr};
    std::vector<int32_t> ids = {0, 69, 15, 16, 15, 31};
    for (const quant::LinearWeight& table : {packed.weight, row_major}) {
      for (int threads : {1, 3}) {
        Device device(CpuIsa::kPortable, threads);
        std::vector<float> y = poisoned(6 * k);
        embedding(device.ex, view(ids, {6}), table, view(y, {6, k}));
        for (size_t i = 0; i < ids.size(); ++i) {
          EXPECT_TRUE(
              same_bits(&y[i * static_cast<size_t>(k)], stored.row_values(ids[i]).data(), k))
              << row_of_table.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace donar::ops
