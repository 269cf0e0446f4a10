#include "app/signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace donar::app {
namespace {

using Wake = SignalWaiter::Wake;
constexpr std::chrono::milliseconds kNow{0};

TEST(SignalWaiter, signal_and_notification_are_told_apart_and_the_signal_goes_first) {
  SignalWaiter waiter({SIGTERM, SIGINT});
  EXPECT_EQ(waiter.wait(kNow), Wake::kTimeout);
  waiter.notify();
  kill(getpid(), SIGTERM);
  EXPECT_EQ(waiter.wait(), Wake::kSignal);
  EXPECT_EQ(waiter.wait(), Wake::kNotified);
  EXPECT_EQ(waiter.wait(kNow), Wake::kTimeout);
}

TEST(SignalWaiter, notification_of_another_thread_ends_the_wait) {
  SignalWaiter waiter({SIGTERM});
  std::thread other([&waiter] { waiter.notify(); });
  EXPECT_EQ(waiter.wait(), Wake::kNotified);
  other.join();
}

TEST(SignalWaiter, discard_forgets_what_came_before) {
  SignalWaiter waiter({SIGINT});
  kill(getpid(), SIGINT);
  waiter.notify();
  waiter.discard_pending();
  EXPECT_EQ(waiter.wait(kNow), Wake::kTimeout);
}

}  // namespace
}  // namespace donar::app
