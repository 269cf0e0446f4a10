// What every op gets first: the device, its threads and its scratch memory. There are no globals.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/thread_pool.h"
#include "tensor/buffer.h"
#include "tensor/cuda_exec.h"
#include "tensor/dtype.h"

namespace donar {

enum class DeviceType : uint8_t { kCpu, kCuda };

// Instruction sets of the CPU kernels, those of one architecture best last. Chosen once at start; a
// flag or a test may force a lower one.
enum class CpuIsa : uint8_t {
  kPortable,
  kAvx2,      // and FMA, F16C
  kAvxVnni,   // and the dot products of four int8 in 256 bits
  kAvx512,    // F, BW, VL, DQ and VNNI
  kAmx,       // and tiles of int8 and bfloat16, if the kernel lets this process have them
  kNeon,      // what every aarch64 has
  kNeonDot,   // and the dot products of four int8 (dotprod)
  kNeonI8mm,  // and the 2 x 2 matrix products of int8 and bfloat16 (i8mm, bf16)
};
inline constexpr CpuIsa kCpuIsas[] = {CpuIsa::kPortable, CpuIsa::kAvx2,    CpuIsa::kAvxVnni,
                                      CpuIsa::kAvx512,   CpuIsa::kAmx,     CpuIsa::kNeon,
                                      CpuIsa::kNeonDot,  CpuIsa::kNeonI8mm};
bool cpu_runs(CpuIsa isa);
CpuIsa detect_cpu_isa();  // the last one that this machine runs
const char* cpu_isa_name(CpuIsa isa);

// Scratch of one step: a bump allocator over a buffer that was sized before the first step. Hands
// out addresses only: of device memory on CUDA.
class Arena {
 public:
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  // 256-byte aligned, uninitialised, valid until the enclosing Scope ends.
  static constexpr uint64_t kAlignment = 256;
  template <class T>
  T* take(int64_t count) {
    const uint64_t begin = (used_ + kAlignment - 1) & ~(kAlignment - 1);
    const uint64_t end = begin + static_cast<uint64_t>(count) * sizeof(T);
    DONAR_CHECK(end <= buffer_.size(), "workspace of {} bytes is too small: {} wanted",
                buffer_.size(), end);
    used_ = end;
    return reinterpret_cast<T*>(buffer_.data() + begin);
  }

  // Everything taken inside a scope is given back at its end.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
    ~Scope() { arena_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    uint64_t mark_;
  };

 private:
  Buffer buffer_;
  uint64_t used_ = 0;
};

struct Exec {
  DeviceType device = DeviceType::kCpu;
  CpuIsa isa = CpuIsa::kPortable;
  ThreadPool* pool = nullptr;      // never null on the CPU
  Arena* arena = nullptr;          // never null; scratch of the ops themselves
  const CudaExec* cuda = nullptr;  // the stream and what kernels ask of the device; null on the CPU
  DType activation = DType::kF32;  // CUDA: kBF16 or kF16, inputs of matrix products
  bool batch_invariant = false;    // CUDA: rows give the same bits in steps of any size, slower

  bool on_cuda() const { return device == DeviceType::kCuda; }
};

}  // namespace donar
