// The kernels for aarch64 with matrix products of int8 and bfloat16; compiled for those, so nothing
// else may be defined here.
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/neon/linear_neon.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsNeonI8mm;
constinit const Kernels kKernelsNeonI8mm =
    make_kernels<VecNeon<CpuIsa::kNeonI8mm>, neon::Linear<CpuIsa::kNeonI8mm>>();
}  // namespace donar::ops::cpu
