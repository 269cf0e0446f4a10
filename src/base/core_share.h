// Decides when a worker of the thread pool steps aside because somebody else runs on its core. A
// thread that is descheduled in the middle of a piece holds up the whole job for a time slice of
// the other program; one that sleeps before its own slice is used up never does.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace donar {

// What a thread looks like at an instant.
struct ThreadTime {
  TimePoint wall;
  Clock::duration cpu{};  // it ran for; stands still while it could run but does not
  int64_t blocks = 0;     // times it slept or waited by itself, for a lock or the disk
};
ThreadTime this_thread_time();

// One per worker, used by that worker only.
class CoreShare {
 public:
  using Duration = Clock::duration;

  // On a core that is taken: run for a burst, then rest. The burst is below Linux's time slice (0.7
  // to 4 ms); the rest is as long, so that the scheduler owes the worker time when it wakes: then
  // it runs soon and starts a new slice. Two cores, one taken: decode has 5 % more than with 1 and
  // 1.5 ms, and keeps 0.6 to 0.7 of its quiet speed.
  static constexpr Duration kBurst = std::chrono::microseconds(700);
  static constexpr Duration kRest = std::chrono::microseconds(700);
  static constexpr int kLongestRest = 16;  // times kRest, if bursts are interrupted all the same

  // How often a worker that has its core looks whether it lost time, and what counts as lost.
  static constexpr Duration kCheckPeriod = std::chrono::microseconds(500);
  static constexpr Duration kLost = std::chrono::microseconds(750);

  // When to try the whole core again: soon at first, later each time that a trial fails within
  // kTrial, since a failed one costs a time slice.
  static constexpr Duration kFirstRetry = std::chrono::milliseconds(5);
  static constexpr Duration kLongestRetry = std::chrono::milliseconds(500);
  static constexpr Duration kTrial = std::chrono::milliseconds(50);

  // The worker starts, or runs again after it slept.
  void wake(const ThreadTime& now);

  // Cheap, after a job or a piece: whether it is time for `check`.
  bool due(TimePoint now) const { return now - begin_.wall >= (shares_ ? credit_ : kCheckPeriod); }

  // How long the worker should sleep now; zero: go on.
  Duration check(const ThreadTime& now);

  // The core is taken: check after every piece.
  bool shares() const { return shares_; }

 private:
  bool shares_ = false;
  int rest_ = 1;          // in kRest
  Duration credit_{};     // what the burst may last
  ThreadTime begin_;      // of what was not counted yet
  Duration retry_{};      // the latest wait for a trial
  TimePoint retry_at_{};  // the next trial
  TimePoint tried_at_{};  // the latest trial
};

}  // namespace donar
