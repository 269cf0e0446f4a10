// The kernels for AVX2 with the 256-bit dot products of AVX-VNNI; compiled with those flags, so
// nothing else may be defined here.
#include "ops/cpu/common/vec_avx_vnni.h"
#include "ops/cpu/kernels_table.h"
#include "ops/cpu/linear_panel.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsAvxVnni;
constinit const Kernels kKernelsAvxVnni = with_panels<VecAvxVnni>(make_kernels<VecAvxVnni>());
}  // namespace donar::ops::cpu
