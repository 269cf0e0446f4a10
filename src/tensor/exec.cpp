#include "tensor/exec.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace donar {
namespace {

#if defined(__x86_64__)
// Leaf 1, ecx: clang 14 does not know the name in __builtin_cpu_supports.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// Leaf 7, subleaf 1, eax: compilers differ in the name too.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & (1u << 4)) != 0;
}

bool has_amx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;  // leaf 7, edx
  constexpr unsigned kAll = kBf16 | kTile | kInt8;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAll) == kAll;
}

// Tile registers must be asked for, once per process; its threads, present and future, share the
// permission. Granted only where the kernel saves them (XCR0 has their bits).
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

}  // namespace

bool cpu_runs(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return true;
#if defined(__x86_64__)
    case CpuIsa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case CpuIsa::kAvxVnni:
      return cpu_runs(CpuIsa::kAvx2) && has_avx_vnni();
    case CpuIsa::kAvx512:
      return cpu_runs(CpuIsa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    case CpuIsa::kAmx:
      return cpu_runs(CpuIsa::kAvx512) && has_amx() && may_use_tiles();
#elif defined(__aarch64__)
    case CpuIsa::kNeon:
      return true;
    case CpuIsa::kNeonDot:
      return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    case CpuIsa::kNeonI8mm:
      return cpu_runs(CpuIsa::kNeonDot) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0 &&
             (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
#endif
    default:
      return false;
  }
}

CpuIsa detect_cpu_isa() {
  CpuIsa best = CpuIsa::kPortable;
  for (CpuIsa isa : kCpuIsas) {
    if (cpu_runs(isa)) best = isa;
  }
  return best;
}

const char* cpu_isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return "portable";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kAvxVnni:
      return "avx-vnni";
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAmx:
      return "amx";
    case CpuIsa::kNeon:
      return "neon";
    case CpuIsa::kNeonDot:
      return "neon-dotprod";
    case CpuIsa::kNeonI8mm:
      return "neon-i8mm";
  }
  return "?";
}

}  // namespace donar
