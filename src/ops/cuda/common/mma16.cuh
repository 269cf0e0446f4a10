// The 16-bit matrix product of one warp, D[16, 8] += A[16, 16] B[16, 8], and how its operands come
// out of k-tiled shared memory.
// Lane l = 4 g + t holds of
//   A: a[0], a[1]: rows g, g + 8, k 2t, 2t + 1;  a[2], a[3]: the same rows, k 2t + 8, 2t + 9
//   B: b[0]: column g, k 2t, 2t + 1;             b[1]: column g, k 2t + 8, 2t + 9
//   D: d[0], d[1]: row g, columns 2t, 2t + 1;    d[2], d[3]: row g + 8, the same columns
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace donar::ops::cuda {

// Four 8 x 8 matrices of 16-bit values: lanes 8i to 8i + 7 give the addresses of the rows (16
// bytes) of matrix i, and every lane gets of each matrix row lane / 4, columns 2 (lane % 4), + 1.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// An 8 x 8 matrix of 16-bit values in that same order, transposed.
__device__ __forceinline__ uint32_t transpose_8x8(uint32_t r) {
  uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(r));
  return transposed;
}

template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                             uint32_t a3, uint32_t b0, uint32_t b1) {
  if constexpr (__is_same(T, __nv_bfloat16)) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    static_assert(__is_same(T, __half), "16-bit operands");
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

}  // namespace donar::ops::cuda
