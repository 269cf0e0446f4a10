// Small lists that kernels read straight from pinned host memory: rarely needed, of any length, so
// they have no place in the step's copy.
#pragma once

#include <algorithm>
#include <span>

#include "base/check.h"
#include "tensor/buffer.h"
#include "tensor/cuda.h"

namespace donar::engine {

// Of one step in flight. Handed out front to back; when it is full, what has been put into the
// stream is waited for, and it begins anew.
class PinnedScratch {
 public:
  PinnedScratch() = default;
  explicit PinnedScratch(Buffer buffer) : buffer_(std::move(buffer)) {}

  void clear() { used_ = 0; }  // the step that read it has ended
  uint64_t size() const { return buffer_.size(); }

  // 16-byte aligned. Whoever reads what was taken before has been launched.
  std::byte* take(uint64_t bytes, CudaStreamHandle stream) {
    DONAR_CHECK(bytes <= size(), "{} bytes of {}", bytes, size());
    if (used_ + bytes > size()) {
      cuda_wait(stream);
      used_ = 0;
    }
    std::byte* const taken = buffer_.data() + used_;
    used_ += (bytes + 15) & ~uint64_t{15};
    return taken;
  }

  // visit(copied piece) for `values`, in pieces that fit; each piece is launched inside visit.
  template <class T, class Visit>
  void for_pieces(std::span<const T> values, CudaStreamHandle stream, Visit visit) {
    const size_t most = size() / sizeof(T);
    for (size_t begin = 0; begin < values.size();) {
      const std::span<const T> piece = values.subspan(begin, std::min(most, values.size() - begin));
      T* const copy = reinterpret_cast<T*>(take(piece.size_bytes(), stream));
      std::ranges::copy(piece, copy);
      visit(copy, static_cast<int64_t>(piece.size()));
      begin += piece.size();
    }
  }

 private:
  Buffer buffer_;
  uint64_t used_ = 0;
};

}  // namespace donar::engine
