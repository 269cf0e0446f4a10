#include "ops/cpu/kernels.h"

#include "base/check.h"

namespace donar::ops::cpu {

extern const Kernels kKernelsPortable;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2;
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

int64_t attention_scratch_bytes(int head_dim) {
  const int64_t head = (head_dim + 15) / 16 * 16;
  return (2 * head * kAttentionTile + kAttentionRows * (kAttentionTile + 2 * head + 4)) *
         int64_t{sizeof(float)};
}

}  // namespace donar::ops::cpu
