#include "ops/cpu/kernels.h"

#include "base/check.h"

namespace donar::ops::cpu {

extern const Kernels kKernelsPortable;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvxVnni;
extern const Kernels kKernelsAvx512;
extern const Kernels kKernelsAmx;
#elif defined(__aarch64__)
extern const Kernels kKernelsNeon;
extern const Kernels kKernelsNeonDot;
extern const Kernels kKernelsNeonI8mm;
#endif

const Kernels& kernels_for(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return kKernelsPortable;
#if defined(__x86_64__)
    case CpuIsa::kAvx2:
      return kKernelsAvx2;
    case CpuIsa::kAvxVnni:
      return kKernelsAvxVnni;
    case CpuIsa::kAvx512:
      return kKernelsAvx512;
    case CpuIsa::kAmx:
      return kKernelsAmx;
#elif defined(__aarch64__)
    case CpuIsa::kNeon:
      return kKernelsNeon;
    case CpuIsa::kNeonDot:
      return kKernelsNeonDot;
    case CpuIsa::kNeonI8mm:
      return kKernelsNeonI8mm;
#endif
    default:
      break;
  }
  DONAR_CHECK(false, "this build has no kernels for {}", cpu_isa_name(isa));
}

}  // namespace donar::ops::cpu
