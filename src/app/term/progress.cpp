#include "app/term/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "tensor/memory_ledger.h"

namespace donar::app::term {
namespace {

constexpr int kBarWidth = 24;

int percent_of(const server::LoadProgress& progress) {
  if (progress.total_bytes == 0) return 0;
  return static_cast<int>(
      std::min<uint64_t>(100, progress.done_bytes * 100 / progress.total_bytes));
}

}  // namespace

std::string progress_line(const server::LoadProgress& progress) {
  if (progress.total_bytes == 0) return progress.phase;
  const int percent = percent_of(progress);
  const int filled = percent * kBarWidth / 100;
  const double rate = progress.seconds > 0.0
                          ? static_cast<double>(progress.done_bytes) / progress.seconds / 1e9
                          : 0.0;
  return fmt::format("{}  [{}{}] {:3} %  {} of {}, {:.1f} GB/s", progress.phase,
                     std::string(static_cast<size_t>(filled), '#'),
                     std::string(static_cast<size_t>(kBarWidth - filled), '.'), percent,
                     format_bytes(progress.done_bytes), format_bytes(progress.total_bytes), rate);
}

void Progress::update(const server::LoadProgress& progress) {
  const std::lock_guard lock(mutex_);
  const int percent = percent_of(progress);
  const bool new_phase = progress.phase != phase_;
  if (!new_phase && percent == last_percent_) return;
  last_percent_ = percent;
  phase_ = progress.phase;
  if (is_terminal_ && progress.total_bytes == 0) {
    erase();  // nothing to measure, and log lines may follow
  } else if (is_terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", progress_line(progress));
    std::fflush(stderr);
    shown_ = true;
  } else if (new_phase) {
    fmt::print(
        stderr, "loading: {}{}\n", progress.phase,
        progress.total_bytes > 0 ? ", " + format_bytes(progress.total_bytes) : std::string());
  }
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  erase();
}

void Progress::erase() {
  if (!shown_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace donar::app::term
