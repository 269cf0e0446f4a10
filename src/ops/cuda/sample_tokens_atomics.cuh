// Sums of 64-bit measures in shared memory, as two words: an atomic of 64 bits there is a loop.
#pragma once

#include <cstdint>

namespace donar::ops::cuda {

// Bins of a histogram by their address in shared memory, found once: left to the compiler, every
// token finds it again (a special register and three instructions, by the SASS of sm_90a).
class WideBins {
 public:
  __device__ WideBins(uint32_t* low, uint32_t* high) {
    asm volatile("mov.u32 %0, %1;" : "=r"(low_) : "r"(address_of(low)));
    asm volatile("mov.u32 %0, %1;" : "=r"(high_) : "r"(address_of(high)));
  }
  __device__ __forceinline__ void add(int bin, unsigned long long value) const {
    const uint32_t offset = static_cast<uint32_t>(bin) * 4;
    const uint32_t part = static_cast<uint32_t>(value);
    uint32_t before;
    asm volatile("atom.shared.add.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "r"(low_ + offset), "r"(part)
                 : "memory");
    const uint32_t rest = static_cast<uint32_t>(value >> 32) + (before + part < before ? 1 : 0);
    if (rest != 0) {
      asm volatile("red.shared.add.u32 [%0], %1;" ::"r"(high_ + offset), "r"(rest) : "memory");
    }
  }
  // Of a bin whose sums stay below 2^32.
  __device__ __forceinline__ void add_one(int bin) const {
    asm volatile("red.shared.add.u32 [%0], %1;" ::"r"(low_ + static_cast<uint32_t>(bin) * 4), "r"(1)
                 : "memory");
  }

 private:
  __device__ static uint32_t address_of(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  }
  uint32_t low_;
  uint32_t high_;
};

}  // namespace donar::ops::cuda
