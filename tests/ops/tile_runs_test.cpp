#include "ops/cpu/tile_runs.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/thread_pool.h"

namespace donar::ops::cpu {
namespace {

TEST(TileRuns, every_tile_is_worked_on_once) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t tiles : {1, 2, 3, 16, 100, 5000}) {
      for (int64_t turns : {1, 3, 400}) {
        for (int64_t grain : {1, 3, 64}) {
          std::vector<std::atomic<int>> times(static_cast<size_t>(tiles));
          TileRuns runs(tiles, turns * threads, grain, threads);
          pool.parallel_for(runs.count(), 1, [&](int64_t run, int64_t) {
            runs.work(run, [&](int64_t begin, int64_t end) {
              EXPECT_LT(begin, end);
              EXPECT_LE(end - begin, grain);
              for (int64_t i = begin; i < end; ++i) ++times[static_cast<size_t>(i)];
            });
          });
          for (int64_t i = 0; i < tiles; ++i)
            ASSERT_EQ(times[static_cast<size_t>(i)], 1) << "tile " << i << " of " << tiles;
        }
      }
    }
  }
}

TEST(TileRuns, one_thread_goes_through_its_run_from_the_front) {
  TileRuns runs(/*tiles=*/20, /*runs=*/4, /*grain=*/2, /*threads=*/1);
  ASSERT_EQ(runs.count(), 4);
  std::vector<int64_t> order;
  for (int64_t run = 0; run < 4; ++run) {
    runs.work(run, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) order.push_back(i);
    });
  }
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

// A thread that is stopped in the middle of a run holds one piece of it; the other does the rest.
TEST(TileRuns, a_run_that_is_stuck_is_finished_by_the_others) {
  TileRuns runs(/*tiles=*/40, /*runs=*/2, /*grain=*/1, /*threads=*/2);
  std::atomic<bool> go{false};
  std::atomic<int> done_by_stuck{0};
  std::atomic<int> done_by_other{0};
  std::thread stuck([&] {
    runs.work(0, [&](int64_t, int64_t) {
      ++done_by_stuck;
      while (!go) std::this_thread::yield();
    });
  });
  while (done_by_stuck == 0) std::this_thread::yield();
  runs.work(1, [&](int64_t, int64_t) { ++done_by_other; });
  EXPECT_EQ(done_by_other, 39);
  go = true;
  stuck.join();
  EXPECT_EQ(done_by_stuck, 1);
}

}  // namespace
}  // namespace donar::ops::cpu
