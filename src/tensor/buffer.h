// Owns device memory (64-byte aligned, huge pages advised from 2 MB up) and gives it back to its
// ledger. Move-only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/memory_ledger.h"

namespace donar {

class Buffer {
 public:
  Buffer() = default;
  // Zero-filled. Refuses through the ledger before allocating; the ledger must outlive the buffer.
  static Result<Buffer> allocate(MemoryLedger& ledger, MemoryUse use, uint64_t bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  uint64_t size() const { return size_; }

 private:
  void free();
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  MemoryUse use_ = MemoryUse::kWorkspace;
  MemoryLedger* ledger_ = nullptr;
};

}  // namespace donar
