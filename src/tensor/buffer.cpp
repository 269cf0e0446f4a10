#include "tensor/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "tensor/cuda.h"
#include "tensor/cuda_memory.h"

namespace donar {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = uint64_t{2} << 20;

uint64_t round_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }
uint64_t mapped_bytes(uint64_t bytes) { return round_up(bytes, kPage); }

// Anonymous pages are zero. From 2 MB up the start lies on a huge page's border, so that no part is
// left in small pages: weights stream faster (36-41 GB/s against 34-36 on a two-core Sapphire
// Rapids guest).
void* map_pages(uint64_t bytes) {
  const uint64_t length = mapped_bytes(bytes);
  const uint64_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* mapped =
      mmap(nullptr, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  const auto begin = reinterpret_cast<uint64_t>(mapped);
  const uint64_t aligned = round_up(begin, kHugePage);
  if (aligned > begin) munmap(mapped, aligned - begin);
  const uint64_t tail = begin + slack - aligned;
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + length), tail);
  madvise(reinterpret_cast<void*>(aligned), length,
          MADV_HUGEPAGE);  // advice: without it pages are small
  return reinterpret_cast<void*>(aligned);
}

}  // namespace

Result<Buffer> Buffer::allocate(MemoryLedger& ledger, MemoryUse use, uint64_t bytes) {
  return allocate(ledger, use, bytes,
                  ledger.space() == MemorySpace::kCuda ? Kind::kCuda : Kind::kPages);
}

Result<Buffer> Buffer::allocate_pinned(MemoryLedger& host_ledger, MemoryUse use, uint64_t bytes) {
  DONAR_CHECK(host_ledger.space() == MemorySpace::kHost);
  return allocate(host_ledger, use, bytes, Kind::kPinned);
}

Result<Buffer> Buffer::allocate(MemoryLedger& ledger, MemoryUse use, uint64_t bytes, Kind kind) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  if (Result<void> reserved = ledger.reserve(use, bytes); !reserved) return forward_error(reserved);
  Result<void*> data = nullptr;
  if (kind == Kind::kPages) {
    data = map_pages(bytes);
    if (*data == nullptr) data = fail(ErrorCode::kResourceExhausted, "{}", std::strerror(errno));
  } else if constexpr (kCuda) {
    data = kind == Kind::kPinned ? cuda_allocate_pinned(bytes) : cuda_allocate(bytes);
  } else {
    DONAR_CHECK(false, "memory of a CUDA device in a build without CUDA");
  }
  if (!data) {
    ledger.release(use, bytes);
    return fail(ErrorCode::kResourceExhausted, "cannot allocate {} for {}: {}", format_bytes(bytes),
                memory_use_name(use), data.error().message);
  }
  buffer.data_ = static_cast<std::byte*>(*data);
  buffer.size_ = bytes;
  buffer.use_ = use;
  buffer.kind_ = kind;
  buffer.ledger_ = &ledger;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      use_(other.use_),
      kind_(other.kind_),
      ledger_(std::exchange(other.ledger_, nullptr)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    free();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    use_ = other.use_;
    kind_ = other.kind_;
    ledger_ = std::exchange(other.ledger_, nullptr);
  }
  return *this;
}

Buffer::~Buffer() { free(); }

void Buffer::free() {
  if (data_ == nullptr) return;
  if (kind_ == Kind::kPages) {
    DONAR_CHECK(munmap(data_, mapped_bytes(size_)) == 0, "munmap: {}", std::strerror(errno));
  } else if constexpr (kCuda) {
    kind_ == Kind::kPinned ? cuda_free_pinned(data_) : cuda_free(data_);
  }
  ledger_->release(use_, size_);
  data_ = nullptr;
  size_ = 0;
  ledger_ = nullptr;
}

}  // namespace donar
