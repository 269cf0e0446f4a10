// A fork-join pool for the CPU device. The caller takes part, so a pool of one runs everything
// inline. Workers spin up to 50 us for the next job and then sleep, since a decode step forks
// hundreds of times. A worker whose core is taken by another program steps aside (core_share.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/function_ref.h"

namespace donar {

class ThreadPool {
 public:
  static constexpr int kMostThreads = 512;

  explicit ThreadPool(int num_threads);  // 1 to kMostThreads, the calling thread included
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Runs body(begin, end) over [0, count) in pieces of at most `chunk`, claimed by whoever is free;
  // returns when all are done. `body` must not throw and must not call the pool again. One caller
  // at a time (the engine thread).
  void parallel_for(int64_t count, int64_t chunk,
                    FunctionRef<void(int64_t begin, int64_t end)> body);

  // Calls body(thread) `calls` times, on whichever threads come; `thread` in [0, num_threads) is
  // the one that calls, 0 the caller. For work that each thread finds by itself: a thread may
  // come several times, or never.
  void parallel_threads(int64_t calls, FunctionRef<void(int thread)> body);

  // What `thread` reads next, in two streams. While it waits, for a job or for the others to end
  // one, it asks for these bytes, into its second cache; until it is told of others. Only a hint.
  void read_ahead(int thread, std::span<const std::byte> first, std::span<const std::byte> second);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CPUs that this process may use: the affinity mask and the cgroup quota, 1 to kMostThreads.
int available_cpus();

}  // namespace donar
