#include "ops/scatter_ints.h"

#include "base/check.h"
#include "ops/cuda/scatter_ints.h"
#include "tensor/cuda.h"
#include "tensor/exec.h"

namespace donar::ops {

void scatter_ints(Exec& ex, int32_t* table, const ScatteredInt* entries, int64_t count) {
  DONAR_CHECK(ex.on_cuda() && count >= 0, "{} entries", count);
  if (count == 0) return;
  DONAR_CHECK(table != nullptr && entries != nullptr);
  if constexpr (kCuda) cuda::scatter_ints({table, entries, count}, *ex.cuda);
}

}  // namespace donar::ops
