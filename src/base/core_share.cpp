// When a worker rests: lost time is what the wall clock shows beyond the CPU time of the thread.
#include "base/core_share.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>

namespace donar {
namespace {

constexpr CoreShare::Duration kUnit = std::chrono::microseconds(1);  // keeps products small

}  // namespace

ThreadTime this_thread_time() {
  // The CPU time of getrusage is that of the latest tick, up to 10 ms old.
  timespec cpu{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return {.wall = Clock::now(),
          .cpu = std::chrono::seconds(cpu.tv_sec) + std::chrono::nanoseconds(cpu.tv_nsec),
          .blocks = usage.ru_nvcsw};
}

void CoreShare::wake(const ThreadTime& now) {
  if (shares_) {
    // A sleep for want of jobs counts too, for as much of a burst as it is of a rest.
    const Duration ran = now.cpu - begin_.cpu;
    const Duration rest = kRest * rest_;
    const Duration slept = std::min(now.wall - begin_.wall - ran, rest);
    credit_ = std::min(kBurst, credit_ - ran + slept * (kBurst / kUnit) / (rest / kUnit));
  }
  begin_ = now;
}

CoreShare::Duration CoreShare::check(const ThreadTime& now) {
  const Duration ran = now.cpu - begin_.cpu;
  // Time that went by while the thread waited for the disk says nothing.
  const bool lost = now.blocks == begin_.blocks && now.wall - begin_.wall - ran >= kLost;
  begin_ = now;
  if (!shares_) {
    if (!lost) return Duration::zero();
    const bool failed_trial = now.wall - tried_at_ < kTrial;
    retry_ = failed_trial ? std::min(retry_ * 2, kLongestRetry) : kFirstRetry;
    retry_at_ = now.wall + retry_;
    rest_ = 1;
    shares_ = true;
  } else if (lost) {
    rest_ = std::min(rest_ * 2, kLongestRest);
  } else if (now.wall >= retry_at_) {
    shares_ = false;
    tried_at_ = now.wall;
    return Duration::zero();
  }
  credit_ = Duration::zero();
  // A piece that lasted longer than a burst wants a rest that is longer, too.
  const Duration fair = std::max(kRest, ran * (kRest / kUnit) / (kBurst / kUnit));
  return std::min(fair, kRest * kLongestRest / rest_) * rest_;
}

}  // namespace donar
