#include "base/thread_placement.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace donar {
namespace {

cpu_set_t affinity_of(pid_t thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(thread, sizeof(set), &set), 0);
  return set;
}

// Of 20 attempts; on a machine of one CPU there is nowhere to go.
void expect_moves(int moves) {
  const cpu_set_t allowed = affinity_of(0);
  if (CPU_COUNT(&allowed) == 1) {
    EXPECT_EQ(moves, 0);
  } else {
    EXPECT_GE(moves, 10);
  }
}

cpu_set_t only(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return set;
}

TEST(ThreadPlacement, a_thread_leaves_its_cpu_and_may_run_where_it_could) {
  const cpu_set_t before = affinity_of(0);
  int moves = 0;
  for (int i = 0; i < 20; ++i) {  // the scheduler may move it back at any time
    const int cpu = this_cpu();
    leave_cpu(this_thread_id(), cpu);
    moves += this_cpu() != cpu ? 1 : 0;
    const cpu_set_t after = affinity_of(0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
  }
  expect_moves(moves);
}

TEST(ThreadPlacement, a_thread_that_may_run_nowhere_else_stays) {
  std::thread([] {
    const int cpu = this_cpu();
    const cpu_set_t pinned = only(cpu);
    ASSERT_EQ(sched_setaffinity(0, sizeof(pinned), &pinned), 0);
    leave_cpu(this_thread_id(), cpu);
    EXPECT_EQ(this_cpu(), cpu);
    const cpu_set_t after = affinity_of(0);
    EXPECT_TRUE(CPU_EQUAL(&pinned, &after));
  }).join();
}

// Of a CPU that it does not run on, or that cannot be, nothing is to be left.
TEST(ThreadPlacement, other_cpus_and_threads_that_are_gone_change_nothing) {
  const cpu_set_t before = affinity_of(0);
  pid_t gone = 0;
  std::thread([&] { gone = this_thread_id(); }).join();
  leave_cpu(gone, this_cpu());
  leave_cpu(this_thread_id(), -1);
  leave_cpu(this_thread_id(), CPU_SETSIZE + 7);
  const cpu_set_t after = affinity_of(0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

// The thread that waits for a CPU is moved while it waits.
TEST(ThreadPlacement, a_thread_is_moved_by_another) {
  std::atomic<pid_t> id{0};
  std::atomic<int> cpu{-1};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    id = this_thread_id();
    while (!stop) cpu = this_cpu();
  });
  while (id == 0 || cpu < 0) std::this_thread::yield();
  int moves = 0;
  for (int i = 0; i < 20; ++i) {
    const int left = cpu;
    leave_cpu(id, left);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (cpu == left && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    moves += cpu != left ? 1 : 0;
  }
  stop = true;
  other.join();
  expect_moves(moves);
}

}  // namespace
}  // namespace donar
