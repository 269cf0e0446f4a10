// wgmma with the A operand in registers, as attention needs it (sm_90a only).
#pragma once

#include "ops/cuda/common/wgmma.cuh"

namespace donar::ops::cuda {

// Descriptor of a B operand whose N is contiguous ("MN-major"): atoms of 8 rows of K x 64 columns.
//   leading byte offset: from one 64-column plane to the next
//   stride byte offset:  from 8 rows to the next 8 rows, 1,024
DONAR_HOST_DEVICE constexpr uint64_t wgmma_descriptor_n(uint32_t shared_address,
                                                        uint32_t plane_bytes) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{plane_bytes >> 4} << 16 |
         ((shared_address >> 4) & 0x3fff);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Lists of operands: only a macro can write them once for two types.
// clang-format off
#define DONAR_D4(J) "+f"(d[J][0]), "+f"(d[J][1]), "+f"(d[J][2]), "+f"(d[J][3])
#define DONAR_D32(J)                                                                              \
  DONAR_D4(J), DONAR_D4(J + 1), DONAR_D4(J + 2), DONAR_D4(J + 3), DONAR_D4(J + 4),                \
      DONAR_D4(J + 5), DONAR_D4(J + 6), DONAR_D4(J + 7)
#define DONAR_WGMMA_N64(TYPES)                                                                    \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                                \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPES " {"                                    \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                    \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"            \
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"                                          \
      : DONAR_D32(0)                                                                              \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposed))
#define DONAR_WGMMA_N128(TYPES)                                                                   \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"                                                \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPES " {"                                   \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                    \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "          \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "          \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"            \
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"                                          \
      : DONAR_D32(0), DONAR_D32(8)                                                                \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposed))
// clang-format on

// d[64, 8 kCount] (+)= a[64, 16] b[16, 8 kCount]; kTransposed: N of b is contiguous.
template <class T, int kTransposed, int kCount>
__device__ __forceinline__ void wgmma_registers(float (&d)[kCount][4], const uint32_t (&a)[4],
                                                uint64_t b, int accumulate) {
  static_assert(kCount == 8 || kCount == 16, "64 or 128 columns");
  constexpr bool kIsBf16 = std::is_same_v<T, __nv_bfloat16>;
  if constexpr (kCount == 16 && kIsBf16) {
    DONAR_WGMMA_N128("bf16.bf16");
  } else if constexpr (kCount == 16) {
    DONAR_WGMMA_N128("f16.f16");
  } else if constexpr (kIsBf16) {
    DONAR_WGMMA_N64("bf16.bf16");
  } else {
    DONAR_WGMMA_N64("f16.f16");
  }
}

#undef DONAR_WGMMA_N128
#undef DONAR_WGMMA_N64
#undef DONAR_D32
#undef DONAR_D4

// Registers that products use behind the compiler's back: not read or written across this line.
template <int kCount>
__device__ __forceinline__ void hold(float (&d)[kCount][4]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[j][i])::"memory");
  }
}
template <int kCount>
__device__ __forceinline__ void hold(uint32_t (&a)[kCount][4]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[j][i])::"memory");
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace donar::ops::cuda
