// Matrix products with packed weights, and the packing itself.
#pragma once

#include <cstdint>

#include "quant/linear_weight.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

// y[r] = W x[r] + bias for each part of the group, outputs side by side.
// x is rounded once per group: to int8 with one float scale per 32 values where weights are
// quantized, to bf16 where they are BF16; F16 and F32 weights multiply x in f32. Every row adds
// over K in the same order whatever the number of rows.
void linear(Exec& ex,
            TensorView x,                     // [rows, k] f32
            const quant::LinearGroup& group,  // [n, k] in layout preferred_layout(ex.device)
            TensorView y);                    // [rows, group.n()] f32, out

// Scratch that linear takes from ex.arena for `rows` rows of `k` values.
uint64_t linear_workspace_bytes(int64_t rows, int64_t k);

// The layout that this device's kernels read. The isa does not matter: all CPU kernels share one
// layout.
quant::Layout preferred_layout(DeviceType device);

// Bytes of a packed matrix, padding included.
int64_t packed_bytes(quant::Format format, quant::Layout layout, int64_t n, int64_t k);

// Packs rows [row_begin, row_begin + rows) of a matrix of n rows from file layout into `packed`
// (packed_bytes long, zeroed before the first call). row_begin is a multiple of 16, and so is
// `rows` unless it is the last piece. The loader streams with this.
void repack_rows(quant::Format format, quant::Layout layout, int64_t n, int64_t k,
                 int64_t row_begin, int64_t rows,
                 const void* stored,  // rows * row_bytes(format, k)
                 void* packed);

// One row of a packed matrix as floats: what `embedding` and tests read.
void unpack_packed_row(const quant::LinearWeight& weight, int64_t row, float* values);

}  // namespace donar::ops
