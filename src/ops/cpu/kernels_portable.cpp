// The kernels for any CPU.
#include "ops/cpu/common/vec_portable.h"
#include "ops/cpu/kernels_table.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsPortable;
constinit const Kernels kKernelsPortable = make_kernels<VecPortable>();
}  // namespace donar::ops::cpu
