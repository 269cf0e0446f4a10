// The kernels for AVX2 with the 256-bit dot products of AVX-VNNI; compiled with those flags, so
// nothing else may be defined here.
#include "ops/cpu/common/vec_avx_vnni.h"
#include "ops/cpu/kernels_table.h"

namespace donar::ops::cpu {
extern const Kernels kKernelsAvxVnni;
constinit const Kernels kKernelsAvxVnni = make_kernels<VecAvxVnni>();
}  // namespace donar::ops::cpu
