#include "ops/embedding.h"

#include "ops/cpu/ops.h"

namespace donar::ops {

void embedding(Exec& ex, TensorView ids, const quant::LinearWeight& table, TensorView y,
               TensorView previous) {
  DONAR_CHECK(ids.rank == 1 && y.rank == 2 && ids.dim(0) == y.dim(0) && y.dim(1) == table.k,
              "ids [{}], table [{}, {}], y [{}, {}]", ids.dim(0), table.n, table.k, y.dim(0),
              y.dim(1));
  DONAR_CHECK(previous.data == nullptr, "on the CPU the host knows every token");
  cpu::embedding(ex, ids, table, y);
}

}  // namespace donar::ops
