// The kernels for any aarch64.
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/neon/linear_neon.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsNeon;
constinit const Kernels kKernelsNeon =
    make_kernels<VecNeon<CpuIsa::kNeon>, neon::Linear<CpuIsa::kNeon>>();
}  // namespace donar::ops::cpu
