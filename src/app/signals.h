// SIGINT and SIGTERM as something to wait for beside other news, instead of handlers that run
// anywhere.
#pragma once

#include <chrono>
#include <initializer_list>
#include <optional>

namespace donar::app {

// Create it before any other thread, so that all threads inherit the blocked signals.
class SignalWaiter {
 public:
  enum class Wake { kSignal, kNotified, kTimeout };

  explicit SignalWaiter(std::initializer_list<int> signals);
  ~SignalWaiter();
  SignalWaiter(const SignalWaiter&) = delete;
  SignalWaiter& operator=(const SignalWaiter&) = delete;

  void notify();  // thread-safe; ends one wait
  Wake wait(std::optional<std::chrono::milliseconds> timeout =
                std::nullopt);  // one thread at a time; a signal goes first
  void discard_pending();       // signals and notifications that came before now

 private:
  int signals_ = -1;  // signalfd
  int news_ = -1;     // eventfd
};

}  // namespace donar::app
