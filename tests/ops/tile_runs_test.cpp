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
      for (int streams : {1, 2}) {
        for (int64_t grain : {1, 3, 64}) {
          for (int64_t limit : {int64_t{7}, tiles}) {
            std::vector<std::atomic<int>> times(static_cast<size_t>(tiles));
            TileRuns runs(tiles, grain, threads, streams);
            const auto count = [&](TileRange range) {
              EXPECT_LE(range.count(), grain);
              for (int64_t i = range.first; i < range.end; ++i) ++times[static_cast<size_t>(i)];
            };
            const auto body = [&](TileRange first, TileRange second) {
              EXPECT_GT(first.count(), 0);
              count(first);
              count(second);
            };
            pool.parallel_threads(2 * threads, [&](int thread) { runs.work(thread, limit, body); });
            runs.work(/*thread=*/0, tiles, body);  // what calls with a limit have left
            for (int64_t i = 0; i < tiles; ++i)
              ASSERT_EQ(times[static_cast<size_t>(i)], 1) << "tile " << i << " of " << tiles;
          }
        }
      }
    }
  }
}

TEST(TileRuns, a_thread_reads_on_in_each_of_its_streams) {
  TileRuns runs(/*tiles=*/40, /*grain=*/2, /*threads=*/2, /*streams=*/2);
  int64_t next[] = {0, 10};
  // Its own tiles only: half of each run's last ones are left for others.
  runs.work(/*thread=*/0, /*limit=*/16, [&](TileRange first, TileRange second) {
    EXPECT_EQ(first.first, next[0]);
    EXPECT_EQ(second.first, next[1]);
    next[0] = first.end;
    next[1] = second.end;
  });
  EXPECT_EQ(next[0], 8);
  EXPECT_EQ(next[1], 18);
}

// A thread that is stopped in the middle of a run holds one piece of it; the other does the rest.
TEST(TileRuns, a_run_that_is_stuck_is_finished_by_the_others) {
  TileRuns runs(/*tiles=*/40, /*grain=*/1, /*threads=*/2, /*streams=*/1);
  std::atomic<bool> go{false};
  std::atomic<int> done_by_stuck{0};
  std::atomic<int> done_by_other{0};
  std::thread stuck([&] {
    runs.work(/*thread=*/0, /*limit=*/40, [&](TileRange, TileRange) {
      ++done_by_stuck;
      while (!go) std::this_thread::yield();
    });
  });
  while (done_by_stuck == 0) std::this_thread::yield();
  runs.work(/*thread=*/1, /*limit=*/40, [&](TileRange first, TileRange second) {
    done_by_other += static_cast<int>(first.count() + second.count());
  });
  EXPECT_EQ(done_by_other, 39);
  go = true;
  stuck.join();
  EXPECT_EQ(done_by_stuck, 1);
}

}  // namespace
}  // namespace donar::ops::cpu
