// A progress bar on a terminal; on anything else one line per phase.
#pragma once

#include <mutex>
#include <string>

#include "server/server.h"

namespace donar::app::term {

class Progress {
 public:
  explicit Progress(bool is_terminal) : is_terminal_(is_terminal) {}
  ~Progress() { clear(); }

  void update(const server::LoadProgress& progress);  // thread-safe
  void clear();                                       // takes the bar off the screen

 private:
  void erase();  // with the mutex held

  std::mutex mutex_;
  const bool is_terminal_;
  bool shown_ = false;
  int last_percent_ = -1;
  std::string phase_;
};

// "weights  [#######.....]  58 %  57.1 of 98.4 MB, 1.2 GB/s"
std::string progress_line(const server::LoadProgress& progress);

}  // namespace donar::app::term
