// A fork-join pool for the CPU device. The caller takes part, so a pool of one runs everything
// inline. Workers spin up to 50 us for the next job and then sleep, since a decode step forks
// hundreds of times. A worker whose core is taken by another program steps aside (core_share.h).
#pragma once

#include <cstdint>
#include <memory>

#include "base/function_ref.h"

namespace donar {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // >= 1, the calling thread included
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Runs body(begin, end) over [0, count) in pieces of at most `chunk`, claimed by whoever is free;
  // returns when all are done. `body` must not throw and must not call the pool again. One caller
  // at a time (the engine thread).
  void parallel_for(int64_t count, int64_t chunk,
                    FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CPUs that this process may use: the affinity mask and the cgroup quota, at least 1.
int available_cpus();

}  // namespace donar
