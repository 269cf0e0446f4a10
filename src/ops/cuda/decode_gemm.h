// Products with at most 64 rows (decode steps): launcher of the kernel that streams packed weights
// at the speed of memory.
#pragma once

#include <cstdint>

#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

enum class DecodeOutput : uint8_t {
  kPartials,  // y[splits][rows][n] in f32: y[s] sums over split s of K, bias in split 0
  kSiluMul,   // y k-tiled [ceil(n / 2 / 64)][rows][64] in the type of x: silu(gate) * up of
              // interleaved weights, columns from n / 2 on zero; splits == 1
};

// Rows may be a slice of taller matrices: x and y point to its first row, which is a multiple of 64
// there. x, weights and a k-tiled y are 16-byte aligned.
struct DecodeGemmParams {
  const void* weights = nullptr;  // kTiled: [n tile][ceil(k / 64)][tile_rows][64]
  const void* x = nullptr;        // k-tiled: [ceil(k / 64)][x_rows][64]
  const float* bias = nullptr;    // [n] or null; kSiluMul: by packed row, up to the last whole 16
  void* y = nullptr;
  int64_t n = 0;  // output features; kSiluMul: gate and up together
  int64_t k = 0;
  int64_t rows = 0;         // 1 to 64
  int64_t x_rows = 0;       // of the whole x
  int64_t y_rows = 0;       // kSiluMul: of the whole y
  int64_t part_stride = 0;  // kPartials: floats from y[s] to y[s + 1]
  int64_t row_stride = 0;   // and from row to row
  int tile_rows = 0;        // a multiple of 32, at most 256
  int splits = 1;           // at most the number of k tiles
  bool bf16 = true;         // type of weights and x: bf16, or f16
  DecodeOutput output = DecodeOutput::kPartials;
};

// The dependent-launch rules of common/launch.cuh hold: only weights and bias are read early. A
// row's result is bitwise the same for every number of rows and every place among them.
void decode_gemm(const DecodeGemmParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
