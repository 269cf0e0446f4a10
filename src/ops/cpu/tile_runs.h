// Who computes which tiles of a matrix, or which splits of attention. Each thread begins with a run
// of neighbouring tiles, or two that it reads turn about, and goes through it in pieces: one that
// reads on where it has read streams faster than one that jumps (a jump costs about a microsecond),
// and two streams are faster than one. A thread that is through takes half of what another one has
// left, so that all are done together, also where a core is slow or taken.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "base/thread_pool.h"

namespace donar::ops::cpu {

struct TileRange {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
};

class TileRuns {
 public:
  static constexpr int kMostThreads = ThreadPool::kMostThreads;
  static constexpr int kMostStreams = 2;

  // Run `run` of `runs`; thread t begins with the runs [t * streams, (t + 1) * streams).
  static TileRange share(int64_t tiles, int run, int runs) {
    return {tiles * run / runs, tiles * (run + 1) / runs};
  }

  // A piece is at most `grain` tiles of a run; there are at most 2^31 - 1 tiles.
  TileRuns(int64_t tiles, int64_t grain, int threads, int streams)
      : grain_(grain), runs_(threads * streams), streams_(streams) {
    for (int i = 0; i < runs_; ++i) run_[i].left = pack(share(tiles, i, runs_));
  }

  // Calls body(first, second) for pieces of `thread`'s runs, of one of which `second` may be
  // empty, and then of others' runs, until nothing is left or `limit` tiles are done. What is left
  // then stays in the runs, where others find it. The pool orders what the pieces write.
  template <class Body>
  void work(int thread, int64_t limit, Body body) {
    const int own = thread * streams_;
    // Smaller and smaller ones towards the end: others may take the rest.
    const auto piece = [&](int64_t left) { return std::min(grain_, half(left)); };
    for (int64_t done = 0; done < limit;) {
      TileRange first, second;
      take(own, /*front=*/true, piece, first);
      if (streams_ > 1) take(own + 1, /*front=*/true, piece, second);
      if (first.count() == 0) std::swap(first, second);
      if (first.count() > 0) {
        body(first, second);
        done += first.count() + second.count();
      } else if (!steal(own)) {
        return;
      }
    }
  }

 private:
  struct alignas(64) Run {
    uint64_t left;  // first tile << 32 | end
  };

  static int64_t half(int64_t left) { return (left + 1) / 2; }
  static uint64_t pack(TileRange range) {
    return static_cast<uint64_t>(range.first) << 32 | static_cast<uint64_t>(range.end);
  }
  static TileRange unpack(uint64_t left) {
    return {static_cast<int64_t>(left >> 32), static_cast<int64_t>(left & 0xffffffffu)};
  }
  std::atomic_ref<uint64_t> left_of(int run) { return std::atomic_ref(run_[run].left); }

  // Takes size(left) tiles of a run from its front or its back; false if it is empty.
  template <class Size>
  bool take(int run, bool front, Size size, TileRange& taken) {
    const std::atomic_ref<uint64_t> left = left_of(run);
    uint64_t seen = left.load(std::memory_order_relaxed);
    TileRange rest;
    do {
      rest = taken = unpack(seen);
      if (rest.count() == 0) return false;
      const int64_t tiles = size(rest.count());
      if (front) {
        rest.first = taken.end = rest.first + tiles;
      } else {
        rest.end = taken.first = rest.end - tiles;
      }
    } while (!left.compare_exchange_weak(seen, pack(rest), std::memory_order_relaxed));
    return true;
  }

  // Half of the run that has most left becomes run `own`, which is empty; false if all are.
  bool steal(int own) {
    TileRange stolen;
    while (true) {
      int fullest = -1;
      int64_t most = 0;
      for (int i = 0; i < runs_; ++i) {
        const int64_t tiles = unpack(left_of(i).load(std::memory_order_relaxed)).count();
        if (tiles > most) fullest = i, most = tiles;
      }
      if (fullest < 0) return false;
      if (take(fullest, /*front=*/false, half, stolen)) break;
    }
    left_of(own).store(pack(stolen), std::memory_order_relaxed);
    return true;
  }

  int64_t grain_;
  int runs_;
  int streams_;
  Run run_[kMostThreads * kMostStreams];  // runs_ of them are set, and plain: setting all would
                                          // cost an op a part of a microsecond
};

}  // namespace donar::ops::cpu
