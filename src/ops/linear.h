// Matrix products with packed weights, and the packing itself.
#pragma once

#include <cstdint>

#include "ops/activation.h"
#include "quant/linear_weight.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// What linear leaves for the next op to add up: value = sum over parts, in order.
struct LinearOutput {
  DType dtype = DType::kF32;
  int64_t parts = 1;
};
// CPU: one part of f32. CUDA: up to 64 rows, the weight's K splits in f32; above, one part in
// ex.activation, or a few in f32 where one would leave multiprocessors idle.
LinearOutput linear_output(const Exec& ex, const quant::LinearGroup& group, int64_t rows);
// The most bytes that y of any number of rows up to max_rows takes.
int64_t linear_output_bytes(const Exec& ex, const quant::LinearGroup& group, int64_t max_rows);

// sum over p of y[p][r] = W x[r] + bias for each part of the group, outputs side by side.
// CPU: x is rounded once per group: to int8 with one float scale per 32 values where weights are
// quantized, to bf16 where they are BF16; F16 and F32 weights multiply x in f32. CUDA: x is in
// ex.activation, sums in f32. Every row adds over K in the same order whatever the number of rows
// (CUDA: up to 64 rows, or with ex.batch_invariant).
void linear(Exec& ex,
            TensorView x,                     // activation of [rows, k]
            const quant::LinearGroup& group,  // [n, k] in layout preferred_layout(ex.device)
            TensorView y);  // [parts, rows, group.n()] as linear_output says, out; of more than
                            // 64 rows one part of f32 may be asked for too (logits)

// y = silu(gate) * up of the group {gate, up}: the two halves of a feed-forward block in one go.
void linear_silu_mul(Exec& ex,
                     TensorView x,                       // activation of [rows, k]
                     const quant::LinearGroup& gate_up,  // [2 * dim, k]
                     TensorView y);                      // activation of [rows, dim], out

// Says that the linear after the next one multiplies `rows` rows with `group`. CPU: threads that
// wait until then ask for its weights. CUDA: nothing, kernels do so themselves.
void read_ahead(Exec& ex, const quant::LinearGroup& group, int64_t rows);

// Scratch that linear takes from ex.arena for `rows` rows of `k` values. CUDA: none.
uint64_t linear_workspace_bytes(DeviceType device, int64_t rows, int64_t k);
// And linear_silu_mul, for `dim` outputs.
uint64_t linear_silu_mul_workspace_bytes(DeviceType device, int64_t rows, int64_t k, int64_t dim);

// The layout that this device's kernels read. The isa does not matter: all CPU kernels share one
// layout.
quant::Layout preferred_layout(DeviceType device);

// Bytes of a packed matrix in kRowMajor or kRows16, padding included.
int64_t packed_bytes(quant::Format format, quant::Layout layout, int64_t n, int64_t k);

// Packs rows [row_begin, row_begin + rows) of a matrix of n rows from file layout into `packed`
// (packed_bytes long, zeroed before the first call). row_begin is a multiple of 16, and so is
// `rows` unless it is the last piece. The loader streams with this. (kTiled: ops/cuda/repack.h.)
void repack_rows(quant::Format format, quant::Layout layout, int64_t n, int64_t k,
                 int64_t row_begin, int64_t rows,
                 const void* stored,  // rows * row_bytes(format, k)
                 void* packed);

// One row of a packed matrix in host memory as floats: what `embedding` and tests read.
void unpack_packed_row(const quant::LinearWeight& weight, int64_t row, float* values);

}  // namespace donar::ops
