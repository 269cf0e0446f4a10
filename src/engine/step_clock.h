// When steps begin and end as the engine's thread sees them: the times in StepStats.
#pragma once

#include <algorithm>
#include <deque>

#include "base/clock.h"
#include "engine/stats.h"

namespace donar::engine {

// Engine thread only.
class StepClock {
 public:
  void woke() { host_begin_ = Clock::now(); }  // nothing was to be done before
  void scheduled() { scheduled_ = Clock::now(); }
  // is_running: the step goes on while the host does; else it has ended, and was no host work.
  void launched(bool is_running) {
    const TimePoint now = Clock::now();
    launches_.push_back({scheduled_, seconds_between(host_begin_, is_running ? now : scheduled_)});
    host_begin_ = now;
  }
  void collected() {  // the oldest
    const TimePoint now = Clock::now();
    const Launch launch = launches_.front();
    launches_.pop_front();
    seconds_ = seconds_between(std::max(launch.scheduled, collected_), now);
    host_seconds_ = launch.host_seconds;
    host_begin_ = collected_ = now;
  }
  // The times of the step that was collected last.
  void fill(StepStats& stats) const {
    stats.seconds = seconds_;
    stats.host_seconds = host_seconds_;
  }

 private:
  struct Launch {
    TimePoint scheduled{};
    double host_seconds = 0.0;
  };
  std::deque<Launch> launches_;  // not collected yet, oldest first
  TimePoint host_begin_ = Clock::now();
  TimePoint scheduled_{};
  TimePoint collected_{};
  double seconds_ = 0.0;
  double host_seconds_ = 0.0;
};

}  // namespace donar::engine
