// Rows as they lie in a file, already in device memory, to their place in packed weights: what the
// loader runs behind its copies.
#pragma once

#include <cstdint>

#include "ops/cuda/common/tiled.h"
#include "quant/format.h"
#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

// Model row of row `row` of a GGUF q or k matrix, whose heads hold the two halves of a rotation in
// alternation: (head, 2 i + s) is (head, s * head_rows / 2 + i).
DONAR_HOST_DEVICE constexpr int64_t unpermuted_row(int64_t row, int64_t head_rows) {
  const int64_t head = row / head_rows, within = row % head_rows, half = head_rows / 2;
  return head * head_rows + within % 2 * half + within / 2;
}

struct RepackParams {
  const void* stored = nullptr;  // `rows` rows of row_bytes(format, k); 16-byte aligned
  void* packed = nullptr;        // kTiled, 16-bit; 16-byte aligned; rows past the last are left
  quant::Format format = quant::Format::kBF16;  // as stored: any of the table
  bool bf16 = true;       // packed as bf16, else f16; values are rounded to nearest even
  int64_t k = 0;          // a multiple of the format's block; columns up to the next 64 become zero
  int64_t row_begin = 0;  // of the first stored row in its own matrix
  int64_t rows = 0;
  int tile_rows = 0;
  int64_t first_row = 0;  // of the packed matrix: row 0 of this one (q, k, v one after the other)
  int gate_or_up = -1;    // 0 or 1: interleaved_row instead
  int64_t head_rows = 0;  // > 0: rows of q or k in GGUF's order, in heads of so many

  // Packed row of stored row i of this call.
  DONAR_HOST_DEVICE constexpr int64_t packed_row(int64_t i) const {
    const int64_t stored_row = row_begin + i;
    const int64_t row = head_rows > 0 ? unpermuted_row(stored_row, head_rows) : stored_row;
    return gate_or_up >= 0 ? interleaved_row(row, gate_or_up) : first_row + row;
  }
};

// Bit for bit quant::unpack_row, rounded once.
void repack(const RepackParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda
