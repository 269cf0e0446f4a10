#include "app/signals.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include "base/check.h"

namespace donar::app {

SignalWaiter::SignalWaiter(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  news_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  DONAR_CHECK(signals_ >= 0 && news_ >= 0, "no file descriptors left");
}

SignalWaiter::~SignalWaiter() {
  ::close(signals_);
  ::close(news_);
}

void SignalWaiter::notify() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      ::write(news_, &one, sizeof(one));  // full means already notified
}

SignalWaiter::Wake SignalWaiter::wait(std::optional<std::chrono::milliseconds> timeout) {
  pollfd files[2] = {{signals_, POLLIN, 0}, {news_, POLLIN, 0}};
  for (;;) {
    const int ready = ::poll(files, 2, timeout ? static_cast<int>(timeout->count()) : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Wake::kTimeout;
    signalfd_siginfo info{};
    if (::read(signals_, &info, sizeof(info)) == sizeof(info)) return Wake::kSignal;
    uint64_t count = 0;
    if (::read(news_, &count, sizeof(count)) == sizeof(count)) return Wake::kNotified;
  }
}

void SignalWaiter::discard_pending() {
  while (wait(std::chrono::milliseconds(0)) != Wake::kTimeout) {
  }
}

}  // namespace donar::app
