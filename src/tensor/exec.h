// What every op gets first: the device, its threads and its scratch memory. There are no globals.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/thread_pool.h"
#include "tensor/buffer.h"

namespace donar {

enum class DeviceType : uint8_t { kCpu, kCuda };

// Instruction sets of the CPU kernels, best last. Chosen once at start; a flag or a test may force
// a lower one.
enum class CpuIsa : uint8_t { kPortable, kAvx2, kAvx512 };
CpuIsa detect_cpu_isa();  // kAvx512 asks for F, BW, VL, DQ and VNNI; kAvx2 for FMA and F16C too
const char* cpu_isa_name(CpuIsa isa);

// Scratch of one step: a bump allocator over a buffer that was sized before the first step.
class Arena {
 public:
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  // 64-byte aligned, uninitialised, valid until the enclosing Scope ends.
  template <class T>
  T* take(int64_t count) {
    const uint64_t begin = (used_ + 63) & ~uint64_t{63};
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
  ThreadPool* pool = nullptr;  // never null on the CPU
  Arena* arena = nullptr;      // never null; scratch of the ops themselves
};

}  // namespace donar
