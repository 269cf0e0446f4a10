// The kernels for aarch64 with dot products of int8; compiled for those, so nothing else may be
// defined here.
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/neon/linear_neon.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsNeonDot;
constinit const Kernels kKernelsNeonDot =
    make_kernels<VecNeon<CpuIsa::kNeonDot>, neon::Linear<CpuIsa::kNeonDot>>();
}  // namespace donar::ops::cpu
