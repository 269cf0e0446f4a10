// Products with more than 64 rows (a prompt's tokens): launcher of the tensor-core tile kernels.
#pragma once

#include <cstdint>

#include "ops/cuda/prefill_plan.h"
#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

enum class PrefillOutput : uint8_t {
  kValues,    // y[rows][n] in the type of x: W x + bias; plan.splits == 1
  kPartials,  // y[splits][rows][n] in f32, bias in part 0
  kSiluMul,   // y k-tiled [ceil(n / 2 / 64)][rows][64] in the type of x: silu(gate) * up, columns
              // from n / 2 on zero; plan.splits == 1
};

enum class PrefillKernel : uint8_t {
  kAuto,       // the fastest that the device runs
  kMma,        // mma.sync and cp.async: every device from sm_80 on
  kWgmma,      // wgmma and bulk copies: sm_90a
  kWgmmaPair,  // and two CTAs that share their activations
};

struct PrefillGemmParams {
  const void* weights = nullptr;  // kTiled: [n tile][ceil(k / 64)][tile_rows][64], 16-bit
  const void* x = nullptr;        // k-tiled: [ceil(k / 64)][rows][64], 16-bit
  const float* bias = nullptr;    // [n] or null; kSiluMul: in the order of the packed rows
  void* y = nullptr;              // 16-byte aligned, as are weights and x
  int64_t n = 0;                  // output features; kSiluMul: gate and up together, 2 * dim
  int64_t k = 0;
  int64_t rows = 0;
  int tile_rows = 0;  // a multiple of 32
  bool bf16 = true;   // type of weights and x: bf16, or f16
  PrefillOutput output = PrefillOutput::kValues;
  PrefillPlan plan{};  // prefill_plan(n, k, rows, num_sms, output == kSiluMul)
  PrefillKernel kernel = PrefillKernel::kAuto;
};

// Whether this device runs the kernel.
bool prefill_kernel_runs(PrefillKernel kernel, const CudaExec& exec);

// The dependent-launch rules of common/launch.cuh hold: only weights and bias are read early.
// A row's result depends on that row alone, given n, k and the plan.
void prefill_gemm(const PrefillGemmParams& params, const CudaExec& exec);

// prefill_gemm with kMma, in a file of its own.
void prefill_gemm_mma(const PrefillGemmParams& params, const CudaExec& exec);

// What both kernels are launched with.
struct PrefillArgs {
  const uint8_t* weights;
  const uint8_t* x;
  const float* bias;
  void* y;
  int packed_rows;  // weight rows that count: n, or whole runs of gate and up
  int columns;      // of y: n, or n / 2
  int rows;
  int k_tiles;
  int tile_rows;
  int padded_rows;  // weight rows that exist: a multiple of tile_rows
  PrefillOutput output;
  PrefillGrid grid;
};
PrefillArgs prefill_args(const PrefillGemmParams& params, int token_tile, int cluster);

}  // namespace donar::ops::cuda
