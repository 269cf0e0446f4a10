// Hopper's warpgroup matrix instruction (sm_90a only): D[64, n] += A[64, 16] B[16, n] by 4 warps,
// A and B read from swizzled shared memory by the tensor cores themselves, while the warps go on.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "ops/cuda/common/tiled.h"

namespace donar::ops::cuda {

// Where an operand lies: rows of 64 16-bit values (128 bytes), K contiguous, 16-byte slots swizzled
// by row & 7, atoms of 8 rows = 1,024 bytes one after the other, the first at a multiple of 1,024.
//   bits  0-13  address / 16
//   bits 16-29  leading byte offset / 16: unused, since one swizzled row holds all of K
//   bits 32-45  stride byte offset / 16: from one atom of 8 rows to the next, 1,024 / 16 = 64
//   bits 49-51  base offset: 0, atoms are aligned
//   bits 62-63  1: swizzle of 128 bytes
DONAR_HOST_DEVICE constexpr uint64_t wgmma_descriptor(uint32_t shared_address) {
  return uint64_t{1} << 62 | uint64_t{64} << 32 | uint64_t{1} << 16 |
         ((shared_address >> 4) & 0x3fff);
}

// What to add to a descriptor to step over bytes: `16 * kK` bytes of K stay inside the atom, since
// the hardware swizzles the address it has computed.
DONAR_HOST_DEVICE constexpr uint64_t wgmma_step(uint32_t bytes) { return bytes >> 4; }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Orders the warpgroup's accesses to its accumulators before the products that follow.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending committed groups are at work.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving the accumulators while products that it cannot see use them.
template <int kCount>
__device__ __forceinline__ void wgmma_hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Lists of operands: only a macro can write them once for two types.
// clang-format off
#define DONAR_D4(I)                                                                               \
  "+f"(d[I]), "+f"(d[I + 1]), "+f"(d[I + 2]), "+f"(d[I + 3])
#define DONAR_D32(I)                                                                              \
  DONAR_D4(I), DONAR_D4(I + 4), DONAR_D4(I + 8), DONAR_D4(I + 12), DONAR_D4(I + 16),              \
      DONAR_D4(I + 20), DONAR_D4(I + 24), DONAR_D4(I + 28)

#define DONAR_WGMMA_N256(TYPES)                                                                   \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                               \
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPES " {"                                   \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                    \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "          \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "          \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "          \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "          \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "          \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "\
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"\
      "}, %128, %129, p, 1, 1, 0, 0;\n}\n"                                                        \
      : DONAR_D32(0), DONAR_D32(32), DONAR_D32(64), DONAR_D32(96)                                 \
      : "l"(a), "l"(b), "r"(accumulate))

#define DONAR_WGMMA_N128(TYPES)                                                                   \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                                \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPES " {"                                   \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                    \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "          \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "          \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"            \
      "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                          \
      : DONAR_D32(0), DONAR_D32(32)                                                               \
      : "l"(a), "l"(b), "r"(accumulate))
// clang-format on

// d += A B (accumulate = 0: d = A B), n = 2 * kCount columns. Of D, lane l of warp w holds
//   d[4j], d[4j + 1]:     row 16w + l / 4,     columns 8j + 2 (l % 4), + 1
//   d[4j + 2], d[4j + 3]: row 16w + l / 4 + 8, the same columns
template <class T, int kCount>
__device__ __forceinline__ void wgmma(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kCount == 128 || kCount == 64, "256 or 128 columns");
  constexpr bool kIsBf16 = std::is_same_v<T, __nv_bfloat16>;
  static_assert(kIsBf16 || std::is_same_v<T, __half>, "16-bit operands");
  if constexpr (kCount == 128 && kIsBf16) {
    DONAR_WGMMA_N256("bf16.bf16");
  } else if constexpr (kCount == 128) {
    DONAR_WGMMA_N256("f16.f16");
  } else if constexpr (kIsBf16) {
    DONAR_WGMMA_N128("bf16.bf16");
  } else {
    DONAR_WGMMA_N128("f16.f16");
  }
}

#undef DONAR_WGMMA_N256
#undef DONAR_WGMMA_N128
#undef DONAR_D32
#undef DONAR_D4

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace donar::ops::cuda
