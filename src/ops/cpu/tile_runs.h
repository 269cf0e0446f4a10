// Who computes which tiles of a matrix: runs of neighbouring tiles, small pieces of a run at a
// time. A thread that reads on where it has read streams faster than one that jumps (a jump costs
// about a microsecond), so a run is claimed whole; when none are left, threads take pieces from the
// ends of the last runs, so that all are done together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace donar::ops::cpu {

class TileRuns {
 public:
  // `runs` is a multiple of `threads` where there are enough tiles; a piece is `grain` tiles.
  TileRuns(int64_t tiles, int64_t runs, int64_t grain, int threads)
      : grain_(static_cast<uint32_t>(grain)),
        threads_(threads),
        count_(static_cast<int>(std::clamp<int64_t>(runs, 1, std::min<int64_t>(tiles, kMost)))) {
    for (int64_t i = 0; i < count_; ++i) {
      const auto begin = static_cast<uint64_t>(tiles * i / count_);
      const auto end = static_cast<uint64_t>(tiles * (i + 1) / count_);
      runs_[i].left = begin << 32 | end;
    }
  }

  int count() const { return count_; }

  // Calls body(begin, end) for pieces of run `index` until it is empty; whoever has one of the last
  // runs then helps with the others. The pool orders what the pieces write.
  template <class Body>
  void work(int64_t index, Body body) {
    int64_t begin, end;
    while (take(index, /*own=*/true, begin, end)) body(begin, end);
    if (index < count_ - threads_) return;
    // Twice as many: a slow thread may still be at an earlier one.
    for (int64_t i = count_ - 1; i >= std::max<int64_t>(count_ - 2 * int64_t{threads_}, 0); --i) {
      while (take(i, /*own=*/false, begin, end)) body(begin, end);
    }
  }

 private:
  static constexpr int64_t kMost = 512;

  struct alignas(64) Run {
    uint64_t left;  // first tile << 32 | end
  };

  bool take(int64_t index, bool own, int64_t& begin, int64_t& end) {
    const std::atomic_ref<uint64_t> left(runs_[index].left);
    uint64_t seen = left.load(std::memory_order_relaxed);
    while (true) {
      const auto first = static_cast<uint32_t>(seen >> 32);
      const auto last = static_cast<uint32_t>(seen);
      if (first == last) return false;
      const uint32_t tiles = std::min(grain_, last - first);
      const uint32_t rest_first = own ? first + tiles : first;
      const uint32_t rest_last = own ? last : last - tiles;
      if (left.compare_exchange_weak(seen, uint64_t{rest_first} << 32 | rest_last,
                                     std::memory_order_relaxed)) {
        begin = own ? first : rest_last;
        end = begin + tiles;
        return true;
      }
    }
  }

  uint32_t grain_;
  int threads_;
  int count_;
  Run runs_[kMost];  // count_ of them are set, and plain: setting all would cost an op a part of a
                     // microsecond
};

}  // namespace donar::ops::cpu
