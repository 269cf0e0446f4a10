#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"

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

// A thread calls one body at a time, so what belongs to its number needs no lock.
TEST(ThreadPool, threads_call_with_their_own_number_as_often_as_asked) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<int64_t> calls(static_cast<size_t>(threads), 0);  // plain memory on purpose
    std::vector<std::thread::id> ids(static_cast<size_t>(threads));
    for (int round = 0; round < 200; ++round) {
      pool.parallel_threads(/*calls=*/9, [&](int thread) {
        ASSERT_LT(thread, threads);
        const auto i = static_cast<size_t>(thread);
        if (calls[i]++ == 0) ids[i] = std::this_thread::get_id();
        EXPECT_EQ(ids[i], std::this_thread::get_id());
      });
    }
    EXPECT_EQ(std::accumulate(calls.begin(), calls.end(), int64_t{0}), 9 * 200);
    EXPECT_EQ(ids[0], std::this_thread::get_id());
  }
}

// A hint never changes what is computed, also for memory that is gone or was never there.
TEST(ThreadPool, reading_ahead_harms_nobody) {
  ThreadPool pool(3);
  auto bytes = std::make_unique<std::vector<std::byte>>(size_t{1} << 20);
  const std::span<const std::byte> span = *bytes;
  std::atomic<int64_t> pieces{0};
  for (int round = 0; round < 300; ++round) {
    for (int thread = 0; thread < 3; ++thread) {
      pool.read_ahead(thread, span.subspan(static_cast<size_t>(round + thread) * 1000),
                      round % 2 == 0 ? span.first(12345) : std::span<const std::byte>());
    }
    if (round == 100) bytes.reset();
    pool.parallel_for(8, 1, [&](int64_t, int64_t) { pieces.fetch_add(1); });
  }
  EXPECT_EQ(pieces.load(), 8 * 300);
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

// Keeps one CPU busy.
class Hog {
 public:
  explicit Hog(int cpu)
      : thread_([this, cpu] {
          pin_this_thread(cpu);
          while (!stop_.load(std::memory_order_relaxed)) {
          }
        }) {}
  ~Hog() {
    stop_ = true;
    thread_.join();
  }

  static void pin_this_thread(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void spin_for(std::chrono::microseconds length) {
  const Clock::time_point end = Clock::now() + length;
  while (Clock::now() < end) {
  }
}

// A pool of two: the caller on one CPU, its worker on another.
class PinnedPool {
 public:
  PinnedPool(int caller_cpu, int worker_cpu, int worker_policy) {
    Hog::pin_this_thread(caller_cpu);
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<bool> pinned{false};
    pool_.parallel_for(2, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller) {
        Hog::pin_this_thread(worker_cpu);
        const sched_param priority{};
        sched_setscheduler(0, worker_policy, &priority);
        pinned = true;
      }
      while (!pinned) std::this_thread::yield();
    });
  }
  ThreadPool& operator*() { return pool_; }

 private:
  ThreadPool pool_{2};
};

// The affinity that a test changed comes back.
class ThreadPoolOnTakenCores : public testing::Test {
 protected:
  void SetUp() override {
    sched_getaffinity(0, sizeof(before_), &before_);
    const std::vector<int> cpus = allowed_cpus();
    ASSERT_FALSE(cpus.empty());
    caller_cpu_ = cpus.front();
    taken_cpu_ = cpus.back();
  }
  void TearDown() override { sched_setaffinity(0, sizeof(before_), &before_); }

  cpu_set_t before_{};
  int caller_cpu_ = 0;
  int taken_cpu_ = 0;  // on a machine of one CPU the same
};

// The worker gets next to nothing of its CPU, so that jobs end long before it has woken up.
TEST_F(ThreadPoolOnTakenCores, a_worker_that_has_not_started_is_not_waited_for) {
  PinnedPool pool(caller_cpu_, taken_cpu_, SCHED_IDLE);
  const Hog hog(taken_cpu_);
  std::vector<Clock::duration> times;
  for (int round = 0; round < 100; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the worker falls asleep
    const Clock::time_point begin = Clock::now();
    (*pool).parallel_for(6, 1, [](int64_t, int64_t) { spin_for(std::chrono::microseconds(5)); });
    times.push_back(Clock::now() - begin);
  }
  std::sort(times.begin(), times.end());
  EXPECT_LT(times[times.size() / 2], std::chrono::milliseconds(2));
}

// Whatever the worker can add, jobs are not slower than without it; a time slice of the other
// program (3 to 4 ms) in every few jobs would make them ten times as slow.
TEST_F(ThreadPoolOnTakenCores, a_taken_core_costs_little_more_than_that_core) {
  const auto jobs_in_300_ms = [](ThreadPool& pool) {
    int jobs = 0;
    const Clock::time_point end = Clock::now() + std::chrono::milliseconds(300);
    for (; Clock::now() < end; ++jobs)
      pool.parallel_for(10, 1, [](int64_t, int64_t) { spin_for(std::chrono::microseconds(10)); });
    return jobs;
  };
  PinnedPool pool(caller_cpu_, taken_cpu_, SCHED_OTHER);
  ThreadPool alone(1);
  const Hog hog(taken_cpu_);
  double best = 0;  // of three: others may run on these CPUs as well
  for (int round = 0; round < 3; ++round) {
    const double without = jobs_in_300_ms(alone);
    best = std::max(best, jobs_in_300_ms(*pool) / without);
  }
  EXPECT_GT(best, 0.8);
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
