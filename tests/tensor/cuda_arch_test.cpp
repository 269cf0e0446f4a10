// Which devices a binary runs on, by what it was compiled for.
#include "tensor/cuda_arch.h"

#include <gtest/gtest.h>

#include "tensor/cuda.h"

namespace donar {
namespace {

TEST(CudaArch, code_runs_where_the_architecture_allows) {
  EXPECT_TRUE(has_cuda_code("87,90a", 90));
  EXPECT_TRUE(has_cuda_code("87,90a", 87));
  EXPECT_FALSE(has_cuda_code("87,90a", 80));  // A100
  EXPECT_FALSE(has_cuda_code("87,90a", 100));
  EXPECT_FALSE(has_cuda_code("90a", 89));        // L4
  EXPECT_FALSE(has_cuda_code("110a", 111));      // with features of one architecture
  EXPECT_FALSE(has_cuda_code("120,121a", 103));  // another major
  EXPECT_TRUE(has_cuda_code("120,121a", 121));
  EXPECT_FALSE(has_cuda_code("87", 89));  // a Tegra's
  EXPECT_FALSE(has_cuda_code("86", 87));
  EXPECT_TRUE(has_cuda_code("86", 89));  // a later minor
  EXPECT_FALSE(has_cuda_code("89", 86));
  EXPECT_FALSE(has_cuda_code("", 90));
  EXPECT_TRUE(has_cuda_code("x,,90a", 90));
}

TEST(CudaArch, a_device_without_code_is_named_with_what_there_is_and_what_to_do) {
  EXPECT_EQ(missing_cuda_code("CUDA device 1 (NVIDIA GB10)", 121, "87,90a"),
            "CUDA device 1 (NVIDIA GB10) has compute capability 12.1, and this program has code "
            "for 87,90a only: `./dev build --cuda 121a`");
  EXPECT_EQ(missing_cuda_code("NVIDIA A100", 80, "90a"),
            "NVIDIA A100 has compute capability 8.0, and this program has code for 90a only; Donar "
            "runs on 8.7, 9.0, 11.0 and 12.1");
}

TEST(CudaArch, a_binary_knows_what_it_was_compiled_for) { EXPECT_EQ(cuda_archs().empty(), !kCuda); }

}  // namespace
}  // namespace donar
