// Single entries of a table on the device: what a step changes of a table that is too large to
// copy. Plain data only: nvcc reads this header too.
#pragma once

#include <cstdint>

namespace donar {
struct Exec;
}

namespace donar::ops {

struct alignas(16) ScatteredInt {  // one load
  int64_t index = 0;               // in the table
  int32_t value = 0;
};
static_assert(sizeof(ScatteredInt) == 16);

// table[entries[i].index] = entries[i].value. Every index is there once. CUDA only.
void scatter_ints(Exec& ex, int32_t* table,
                  const ScatteredInt* entries,  // [count] device memory, or pinned host memory
                  int64_t count);

}  // namespace donar::ops
