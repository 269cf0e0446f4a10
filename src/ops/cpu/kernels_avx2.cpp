// The kernels for AVX2, FMA and F16C; compiled with those flags, so nothing else may be defined
// here.
#include "ops/cpu/common/vec_avx2.h"
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/linear_panel.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsAvx2;
constinit const Kernels kKernelsAvx2 = with_panels<VecAvx2>(make_kernels<VecAvx2>());
}  // namespace donar::ops::cpu
