#include "ops/embedding.h"

#include "ops/cpu/ops.h"
#include "ops/linear.h"

namespace donar::ops::cpu {

void embedding(Exec& ex, TensorView ids, const quant::LinearWeight& table, TensorView y) {
  // Unpacking costs more per float than the other row ops: fork earlier.
  const int64_t grain = rows_per_piece(ex, ids.dim(0), table.k * 8);
  ex.pool->parallel_for(ids.dim(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      unpack_packed_row(table, ids.as<int32_t>()[row], y.row<float>(row));
    }
  });
}

}  // namespace donar::ops::cpu
