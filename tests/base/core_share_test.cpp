// A worker on an imagined core: the test moves the clocks.
#include "base/core_share.h"

#include <gtest/gtest.h>

namespace donar {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class Worker {
 public:
  Worker() { share_.wake(now_); }

  void run(Clock::duration length) {
    now_.wall += length;
    now_.cpu += length;
  }
  void lose(Clock::duration length) { now_.wall += length; }
  void sleep(Clock::duration length) {
    now_.wall += length;
    ++now_.blocks;
    share_.wake(now_);
  }
  void wait_for_disk(Clock::duration length) {
    now_.wall += length;
    ++now_.blocks;
  }
  bool due() const { return share_.due(now_.wall); }
  Clock::duration check() { return share_.check(now_); }
  bool shares() const { return share_.shares(); }
  TimePoint now() const { return now_.wall; }

  // Bursts and rests until it tries the whole core again; how long that was.
  Clock::duration share_until_trial() {
    const TimePoint begin = now_.wall;
    while (shares()) {
      run(CoreShare::kBurst);
      if (const Clock::duration rest = check(); rest > Clock::duration::zero()) sleep(rest);
    }
    return now_.wall - begin;
  }
  // Loses a time slice to another program, and rests as told.
  void be_interrupted() {
    run(milliseconds(2));
    lose(milliseconds(4));
    sleep(check());
  }

 private:
  CoreShare share_;
  ThreadTime now_{.wall = TimePoint(std::chrono::hours(1))};
};

TEST(CoreShare, a_core_of_ones_own_is_never_left) {
  Worker worker;
  for (int i = 0; i < 10000; ++i) {
    worker.run(microseconds(i % 7 * 100));
    worker.lose(microseconds(i % 3));  // interrupts
    if (worker.due()) {
      EXPECT_EQ(worker.check(), Clock::duration::zero()) << i;
    }
  }
  EXPECT_FALSE(worker.shares());
}

TEST(CoreShare, looks_at_the_thread_seldom) {
  Worker worker;
  EXPECT_FALSE(worker.due());
  worker.run(CoreShare::kCheckPeriod - microseconds(1));
  EXPECT_FALSE(worker.due());
  worker.run(microseconds(1));
  EXPECT_TRUE(worker.due());
}

TEST(CoreShare, waiting_for_the_disk_is_not_a_taken_core) {
  Worker worker;
  for (int i = 0; i < 100; ++i) {
    worker.run(milliseconds(1));
    worker.wait_for_disk(milliseconds(10));
    EXPECT_EQ(worker.check(), Clock::duration::zero());
  }
}

// A worker whose next trial is some time away.
Worker on_a_core_long_taken() {
  Worker worker;
  for (int i = 0; i < 4; ++i) {
    worker.be_interrupted();
    worker.share_until_trial();
  }
  worker.be_interrupted();
  return worker;
}

TEST(CoreShare, steps_aside_as_soon_as_time_is_lost) {
  Worker worker;
  worker.run(milliseconds(2));
  worker.lose(milliseconds(4));
  EXPECT_TRUE(worker.due());
  EXPECT_GE(worker.check(), CoreShare::kRest);
  EXPECT_TRUE(worker.shares());
}

TEST(CoreShare, on_a_taken_core_runs_in_bursts_and_rests_longer) {
  Worker worker = on_a_core_long_taken();
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(worker.due());
    worker.run(CoreShare::kBurst);
    EXPECT_TRUE(worker.due());
    EXPECT_EQ(worker.check(), CoreShare::kRest);
    worker.sleep(CoreShare::kRest);
  }
}

TEST(CoreShare, short_sleeps_do_not_refill_a_burst) {
  Worker worker = on_a_core_long_taken();
  worker.run(CoreShare::kBurst / 2);
  worker.sleep(microseconds(15));
  EXPECT_FALSE(worker.due());
  worker.run(CoreShare::kBurst / 2 + microseconds(15));
  EXPECT_TRUE(worker.due());
}

TEST(CoreShare, a_long_piece_is_rested_for) {
  Worker worker = on_a_core_long_taken();
  worker.run(4 * CoreShare::kBurst);
  EXPECT_EQ(worker.check(), 4 * CoreShare::kRest);
}

TEST(CoreShare, rests_longer_when_bursts_are_interrupted_but_not_forever) {
  Worker worker = on_a_core_long_taken();
  Clock::duration longest{};
  for (int i = 0; i < 10; ++i) {
    worker.run(CoreShare::kBurst);
    worker.lose(milliseconds(4));
    const Clock::duration rest = worker.check();
    EXPECT_GE(rest, longest);
    longest = rest;
    worker.sleep(rest);
  }
  EXPECT_EQ(longest, CoreShare::kRest * CoreShare::kLongestRest);
}

TEST(CoreShare, tries_the_whole_core_again_ever_later_while_it_is_taken) {
  Worker worker;
  worker.be_interrupted();
  Clock::duration before{};
  for (int i = 0; i < 8; ++i) {
    const Clock::duration waited = worker.share_until_trial();
    EXPECT_LE(waited, CoreShare::kLongestRetry + milliseconds(10));
    if (i == 0) {
      EXPECT_LE(waited, CoreShare::kFirstRetry + milliseconds(10));
    }
    if (i < 5) {
      EXPECT_GT(waited, before) << i;
    }
    before = waited;
    worker.be_interrupted();
    EXPECT_TRUE(worker.shares());
  }
}

TEST(CoreShare, a_trial_that_goes_well_forgets_the_failed_ones) {
  Worker worker;
  for (int i = 0; i < 5; ++i) {
    worker.be_interrupted();
    worker.share_until_trial();
  }
  for (Clock::duration ran{}; ran < 2 * CoreShare::kTrial; ran += milliseconds(1)) {
    worker.run(milliseconds(1));
    EXPECT_EQ(worker.check(), Clock::duration::zero());
  }
  worker.be_interrupted();
  EXPECT_LE(worker.share_until_trial(), CoreShare::kFirstRetry + milliseconds(10));
}

TEST(CoreShare, the_clocks_of_a_thread_move_as_it_runs_and_sleeps) {
  const ThreadTime begin = this_thread_time();
  ThreadTime before = begin;
  // CPU time is up to date at any moment, not only after a tick of the kernel.
  for (int i = 0; i < 20; ++i) {
    while (Clock::now() - before.wall < microseconds(300)) {
    }
    const ThreadTime now = this_thread_time();
    EXPECT_GT(now.cpu, before.cpu);
    EXPECT_LE(now.cpu - before.cpu, now.wall - before.wall + milliseconds(1));
    before = now;
  }
  timespec nap{.tv_sec = 0, .tv_nsec = 1'000'000};
  nanosleep(&nap, nullptr);
  EXPECT_GT(this_thread_time().blocks, before.blocks);
}

}  // namespace
}  // namespace donar
