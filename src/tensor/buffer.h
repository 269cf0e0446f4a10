// Owns memory of its ledger's space and gives it back. On the host: 64-byte aligned, huge pages
// advised from 2 MB up. Move-only.
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
  // Host memory that a CUDA device copies from and to without a detour. Zero-filled.
  static Result<Buffer> allocate_pinned(MemoryLedger& host_ledger, MemoryUse use, uint64_t bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }  // of a CUDA ledger: a device address
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  uint64_t size() const { return size_; }

 private:
  enum class Kind : uint8_t { kPages, kPinned, kCuda };
  static Result<Buffer> allocate(MemoryLedger& ledger, MemoryUse use, uint64_t bytes, Kind kind);
  void free();
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  MemoryUse use_ = MemoryUse::kWorkspace;
  Kind kind_ = Kind::kPages;
  MemoryLedger* ledger_ = nullptr;
};

}  // namespace donar
