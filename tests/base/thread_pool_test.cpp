#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace donar {
namespace {

TEST(ThreadPool, every_index_runs_once_in_pieces_of_at_most_the_chunk) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t count : {0, 1, 7, 64, 1000}) {
      for (int64_t chunk : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
        std::atomic<bool> too_long{false};
        pool.parallel_for(count, chunk, [&](int64_t begin, int64_t end) {
          if (end - begin > chunk || begin >= end) too_long = true;
          for (int64_t i = begin; i < end; ++i) runs[static_cast<size_t>(i)].fetch_add(1);
        });
        EXPECT_FALSE(too_long);
        for (const auto& run : runs)
          ASSERT_EQ(run.load(), 1) << count << " in " << chunk << " on " << threads;
      }
    }
  }
}

// Two jobs of different shapes in a row, many times: a late worker must not run a piece of the job
// before, nor miss one.
TEST(ThreadPool, jobs_in_quick_succession_do_not_mix) {
  ThreadPool pool(4);
  for (int round = 0; round < 20000; ++round) {
    const int64_t count = round % 17 + 1;
    std::atomic<int64_t> sum{0};
    pool.parallel_for(count, round % 3 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum.fetch_add(i + round, std::memory_order_relaxed);
    });
    ASSERT_EQ(sum.load(), count * (count - 1) / 2 + count * round) << "round " << round;
  }
}

TEST(ThreadPool, writes_of_workers_are_visible_after_the_join) {
  ThreadPool pool(3);
  std::vector<int64_t> values(300, 0);  // plain memory on purpose: the thread sanitizer looks here
  for (int64_t round = 1; round <= 500; ++round) {
    pool.parallel_for(300, 7, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] += round;
    });
  }
  for (int64_t value : values) EXPECT_EQ(value, 500 * 501 / 2);
}

TEST(ThreadPool, sleeping_workers_wake_for_the_next_job) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond the spin
    std::atomic<int> pieces{0};
    pool.parallel_for(12, 1, [&](int64_t, int64_t) { pieces.fetch_add(1); });
    EXPECT_EQ(pieces.load(), 12);
  }
}

TEST(ThreadPool, several_threads_take_part) {
  ThreadPool pool(2);
  std::atomic<bool> worker_ran{false};
  const std::thread::id caller = std::this_thread::get_id();
  // Pieces wait until a second thread has claimed one: this ends only if one does.
  pool.parallel_for(8, 1, [&](int64_t, int64_t) {
    if (std::this_thread::get_id() != caller) worker_ran = true;
    while (!worker_ran) std::this_thread::yield();
  });
  EXPECT_TRUE(worker_ran);
}

TEST(ThreadPool, two_pools_that_share_the_cores_both_finish) {
  const auto work = [] {
    ThreadPool pool(4);
    std::atomic<int64_t> total{0};
    for (int round = 0; round < 2000; ++round) {
      pool.parallel_for(40, 1, [&](int64_t begin, int64_t) { total.fetch_add(begin); });
    }
    EXPECT_EQ(total.load(), 2000 * 780);
  };
  std::thread other(work);
  work();
  other.join();
}

// A worker that is slow again and again (as if its core were taken): the caller goes on alone, and
// comes back to the pool later.
TEST(ThreadPool, goes_on_alone_while_waits_are_long) {
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  bool alone = false;
  for (int round = 0; round < 500 && !alone; ++round) {
    std::atomic<int> others{0};
    pool.parallel_for(2, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller) {
        others.fetch_add(1);
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    });
    alone = round > 0 && others.load() == 0;
  }
  EXPECT_TRUE(alone);
  bool together = false;
  for (int round = 0; round < 2000 && !together; ++round) {
    std::atomic<int> others{0};
    pool.parallel_for(2, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller) others.fetch_add(1);
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    });
    together = others.load() > 0;
  }
  EXPECT_TRUE(together);
}

TEST(ThreadPool, starts_and_stops_many_times) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(3);
    if (i % 2 == 0) pool.parallel_for(5, 1, [](int64_t, int64_t) {});
  }
}

TEST(AvailableCpus, is_at_least_one_and_at_most_the_machines) {
  EXPECT_GE(available_cpus(), 1);
  EXPECT_LE(available_cpus(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace donar
