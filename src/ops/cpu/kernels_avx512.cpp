// The kernels for AVX-512 with VNNI; compiled with those flags, so nothing else may be defined
// here.
#include "ops/cpu/common/vec_avx512.h"
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/linear_panel.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsAvx512;
constinit const Kernels kKernelsAvx512 = with_panels<VecAvx512>(make_kernels<VecAvx512>());
}  // namespace donar::ops::cpu
