#include "ops/embedding.h"

#include "ops/cpu/ops.h"
#include "ops/cuda/embedding.h"
#include "tensor/cuda.h"

namespace donar::ops {
namespace {

[[maybe_unused]] DType table_dtype(quant::Format format) {
  switch (format) {
    case quant::Format::kBF16:
      return DType::kBF16;
    case quant::Format::kF16:
      return DType::kF16;
    default:
      return DType::kF32;
  }
}

}  // namespace

void embedding(Exec& ex, TensorView ids, const quant::LinearWeight& table, TensorView y,
               TensorView previous) {
  DONAR_CHECK(ids.rank == 1 && y.rank == 2 && ids.dim(0) == y.dim(0) && y.dim(1) == table.k,
              "ids [{}], table [{}, {}], y [{}, {}]", ids.dim(0), table.n, table.k, y.dim(0),
              y.dim(1));
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      const bool tiled = table.layout == quant::Layout::kTiled;
      const DType dtype = table_dtype(table.format);
      DONAR_CHECK(quant::info(table.format).block_values == 1 &&
                      (tiled ? dtype != DType::kF32 && table.tile_rows > 0 && !table.interleaved
                             : table.layout == quant::Layout::kRowMajor),
                  "a table of {} in layout {}", quant::info(table.format).name,
                  static_cast<int>(table.layout));
      cuda::EmbeddingParams params;
      params.ids = ids.as<int32_t>();
      if (previous.data != nullptr) {
        params.previous = previous.as<int32_t>();
        params.num_previous = static_cast<int>(previous.dim(0));
      }
      params.table = table.data;
      params.table_dtype = dtype;
      params.tile_rows = tiled ? table.tile_rows : 0;
      params.y = y.as<float>();
      params.rows = ids.dim(0);
      params.vocab = table.n;
      params.dim = table.k;
      params.y_stride = y.stride[0];
      cuda::embedding(params, *ex.cuda);
      return;
    }
  }
  DONAR_CHECK(previous.data == nullptr, "on the CPU the host knows every token");
  cpu::embedding(ex, ids, table, y);
}

}  // namespace donar::ops
