// Weights from files, or made up, into the memory of a CUDA device: threads read into pinned slots,
// copies and the repack kernel run behind them on the device, all at the same time.
#pragma once

#include "model/packer.h"
#include "model/read_plan.h"
#include "ops/cuda/fill_random.h"
#include "ops/cuda/repack.h"
#include "ops/random_value.h"

namespace donar::model {

// What the kernels are told. `staged`: the piece's rows; `weights`: the weight buffer.
inline ops::cuda::RepackParams repack_params(const Piece& piece, const std::byte* staged,
                                             std::byte* weights) {
  const LoadItem& item = *piece.item;
  ops::cuda::RepackParams params;
  params.stored = staged;
  params.packed = weights + item.place;
  params.format = item.stored;
  params.bf16 = item.packed == quant::Format::kBF16;
  params.k = item.k;
  params.row_begin = piece.row_begin;
  params.rows = piece.rows;
  params.tile_rows = item.tile_rows;
  params.first_row = item.first_row;
  params.gate_or_up = item.gate_or_up;
  params.head_rows = item.permuted_heads > 0 ? item.head_rows() : 0;
  return params;
}

// Item `index` of the plan, made up.
inline ops::cuda::FillRandomParams fill_params(const LoadItem& item, size_t index,
                                               std::byte* weights) {
  ops::cuda::FillRandomParams params;
  params.packed = weights + item.place;
  params.bf16 = item.packed == quant::Format::kBF16;
  params.n = item.n;
  params.k = item.k;
  params.tile_rows = item.tile_rows;
  params.first_row = item.first_row;
  params.gate_or_up = item.gate_or_up;
  params.seed = dummy_seed(index);
  params.scale = ops::random_scale(item.dummy_spread);
  return params;
}

struct LoadLedgers {
  MemoryLedger& device;
  MemoryLedger& host;
};

// Fills `weights`, plan.packed_bytes of zeroed device memory. Waits until all is there. Throws
// CudaError.
Result<void> load_on_cuda(const Exec& ex, LoadLedgers ledgers, const ModelFiles& files,
                          const LoadPlan& plan, const LoadOptions& options, std::byte* weights);

}  // namespace donar::model
