#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <string>

#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar {
namespace {

TEST(F16, every_value_survives_the_way_through_float) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << bits;
    } else {
      EXPECT_EQ(f32_to_f16(value), bits);
    }
  }
}

TEST(F16, rounds_halfway_cases_to_even_and_overflows_to_infinity) {
  EXPECT_EQ(f32_to_f16(1.0f + 1.0f / 2048), 0x3c00);          // halfway: down to even
  EXPECT_EQ(f32_to_f16(1.0f + 3.0f / 2048), 0x3c02);          // halfway: up to even
  EXPECT_EQ(f32_to_f16(1.0f + 1.0f / 2048 + 1e-6f), 0x3c01);  // just above halfway
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 0x0001);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
}

TEST(BF16, rounds_to_nearest_even_and_keeps_nan) {
  EXPECT_EQ(bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bf16(1.0f + 1.0f / 256).bits, 0x3f80);  // halfway: down to even
  EXPECT_EQ(bf16(1.0f + 3.0f / 256).bits, 0x3f82);  // halfway: up to even
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::max()))));
}

TEST(TensorView, rows_and_columns_point_into_the_parent) {
  float data[12] = {};
  const TensorView view(data, DType::kF32, {3, 4});
  EXPECT_EQ(view.numel(), 12);
  EXPECT_EQ(view.row<float>(2), data + 8);
  const TensorView part = view.rows(1, 2).columns(1, 2);
  EXPECT_EQ(part.row<float>(1), data + 9);
  EXPECT_EQ(part.dim(0), 2);
  EXPECT_EQ(part.dim(1), 2);
  EXPECT_DEATH((void)view.rows(2, 2), "rows \\[2, 4\\) of 3");
  EXPECT_DEATH((void)view.as<int32_t>(), "dtype is float32");
}

TEST(Arena, gives_aligned_pieces_and_takes_them_back_at_the_scopes_end) {
  MemoryLedger ledger;
  Arena arena(*Buffer::allocate(ledger, MemoryUse::kWorkspace, 4 * Arena::kAlignment));
  float* outer = arena.take<float>(1);
  std::byte* inside = nullptr;
  {
    Arena::Scope scope(arena);
    inside = arena.take<std::byte>(100);
    EXPECT_EQ(inside - reinterpret_cast<std::byte*>(outer),
              static_cast<std::ptrdiff_t>(Arena::kAlignment));
  }
  EXPECT_EQ(arena.take<std::byte>(3 * Arena::kAlignment), inside)
      << "the scope's bytes are free again";
  EXPECT_DEATH((void)arena.take<std::byte>(1), "workspace of 1024 bytes is too small");
}

TEST(CpuIsa, has_a_floor_that_runs_anywhere_and_names_that_tell_apart) {
  EXPECT_TRUE(cpu_runs(CpuIsa::kPortable));
  EXPECT_TRUE(cpu_runs(detect_cpu_isa()));
  EXPECT_STREQ(cpu_isa_name(CpuIsa::kAvx512), "avx512");
  std::set<std::string> names;
  for (CpuIsa isa : kCpuIsas) names.insert(cpu_isa_name(isa));
  EXPECT_EQ(names.size(), std::size(kCpuIsas));
  EXPECT_EQ(names.count("?"), 0u);
}

TEST(CpuIsa, belongs_to_one_architecture) {
  EXPECT_FALSE(cpu_runs(CpuIsa::kAvx2) && cpu_runs(CpuIsa::kNeon));
#if defined(__aarch64__)
  EXPECT_TRUE(cpu_runs(CpuIsa::kNeon));
#endif
}

// On aarch64 compilers fuse by themselves unless they are told not to.
TEST(Floats, products_and_sums_round_apart_on_every_architecture) {
  volatile float near_one = 1.0f + 0x1p-12f;
  volatile float minus_square = -(1.0f + 0x1p-11f);  // of the exact one 2^-24 is left
  const float a = near_one;
  const float b = minus_square;
  EXPECT_EQ(a * a + b, 0.0f);
  EXPECT_EQ(std::fma(a, a, b), 0x1p-24f);
}

}  // namespace
}  // namespace donar
