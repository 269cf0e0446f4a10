// The fork-join pool. Pieces are claimed by a compare-and-swap on the number that is left, so a
// worker that sleeps or was descheduled before it claimed anything is never waited for.
#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/clock.h"

namespace donar {
namespace {

constexpr std::chrono::microseconds kSpin{50};
// A wait for other threads' last pieces beyond this means that a core is taken by somebody else.
constexpr std::chrono::milliseconds kSlowWait{1};
constexpr std::chrono::milliseconds kSlowWaitMemory{50};
constexpr std::chrono::milliseconds kFirstSolo{20};
constexpr std::chrono::milliseconds kLongestSolo{500};

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class T>
void futex_wait(std::atomic<T>& word, T expected) {
  static_assert(sizeof(std::atomic<T>) == 4);
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

template <class T>
void futex_wake(std::atomic<T>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

// Spins until `done` or the time is up; true if done.
template <class Done>
bool spin_until(Done done) {
  const TimePoint deadline = Clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause_cpu();
    }
  } while (Clock::now() < deadline);
  return done();
}

}  // namespace

struct ThreadPool::State {
  // The job: written by the caller before `unclaimed` is published, read only by holders of a
  // claimed piece.
  int64_t count = 0;
  int64_t chunk = 0;
  uint32_t num_chunks = 0;
  const FunctionRef<void(int64_t, int64_t)>* body = nullptr;

  alignas(64) std::atomic<uint32_t> unclaimed{0};   // pieces that nobody has taken
  alignas(64) std::atomic<uint32_t> unfinished{0};  // pieces that are not done
  std::atomic<uint32_t> caller_sleeps{0};
  alignas(64) std::atomic<uint32_t> epoch{0};  // one more per job; what idle workers watch
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};

  // Caller only: back off to one thread while a core is taken.
  TimePoint last_slow_wait{};
  TimePoint solo_until{};
  std::chrono::milliseconds solo_length{0};
  bool solo = false;

  std::vector<std::thread> workers;

  void run_pieces() {
    uint32_t left = unclaimed.load(std::memory_order_acquire);
    while (left > 0) {
      // A success is a claim on the job that is current, even if `left` was read from an earlier
      // one.
      if (!unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) continue;
      const int64_t begin = static_cast<int64_t>(num_chunks - left) * chunk;
      (*body)(begin, std::min(begin + chunk, count));
      if (unfinished.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
          caller_sleeps.load(std::memory_order_seq_cst) != 0) {
        futex_wake(unfinished, 1);
      }
      left = unclaimed.load(std::memory_order_acquire);
    }
  }

  void work() {
    uint32_t seen = 0;
    while (true) {
      const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!spin_until(changed)) {
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        while (epoch.load(std::memory_order_seq_cst) == seen) futex_wait(epoch, seen);
        sleepers.fetch_sub(1, std::memory_order_seq_cst);
      }
      // In this order: the change that says stop must not be taken for one that was seen.
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      run_pieces();
    }
  }

  void announce(uint32_t wanted) {
    epoch.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) != 0) futex_wake(epoch, static_cast<int>(wanted));
  }

  void wait_for_others() {
    const auto done = [&] { return unfinished.load(std::memory_order_acquire) == 0; };
    if (done()) return;
    const TimePoint begin = Clock::now();
    if (spin_until(done)) return;
    caller_sleeps.store(1, std::memory_order_seq_cst);
    for (uint32_t left; (left = unfinished.load(std::memory_order_seq_cst)) != 0;) {
      futex_wait(unfinished, left);
    }
    caller_sleeps.store(0, std::memory_order_relaxed);
    const TimePoint now = Clock::now();
    if (now - begin > kSlowWait) note_slow_wait(now);
  }

  void note_slow_wait(TimePoint now) {
    if (now - last_slow_wait < kSlowWaitMemory) {
      const bool again = now - solo_until < kSlowWaitMemory;
      solo_length = again ? std::min(solo_length * 2, kLongestSolo) : kFirstSolo;
      solo_until = now + solo_length;
      solo = true;
    }
    last_slow_wait = now;
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  DONAR_CHECK(num_threads >= 1, "a pool of {} threads", num_threads);
  for (int i = 1; i < num_threads; ++i) {
    state_->workers.emplace_back([state = state_.get()] { state->work(); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->announce(static_cast<uint32_t>(state_->workers.size()));
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t count, int64_t chunk,
                              FunctionRef<void(int64_t begin, int64_t end)> body) {
  if (count <= 0) return;
  State& state = *state_;
  chunk = std::max<int64_t>(chunk, 1);
  const int64_t num_chunks = (count + chunk - 1) / chunk;
  DONAR_CHECK(num_chunks <= INT32_MAX, "{} pieces", num_chunks);
  if (state.solo && Clock::now() >= state.solo_until) state.solo = false;
  if (num_chunks == 1 || state.workers.empty() || state.solo) {
    for (int64_t begin = 0; begin < count; begin += chunk) {
      body(begin, std::min(begin + chunk, count));
    }
    return;
  }
  state.count = count;
  state.chunk = chunk;
  state.num_chunks = static_cast<uint32_t>(num_chunks);
  state.body = &body;
  state.unfinished.store(state.num_chunks, std::memory_order_relaxed);
  state.unclaimed.store(state.num_chunks, std::memory_order_release);
  state.announce(state.num_chunks - 1);
  state.run_pieces();
  state.wait_for_others();
}

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
  const double quota = read_cgroup_limits().cpus;
  // Whole CPUs only: a thread beyond the quota is throttled in the middle of a fork.
  if (quota > 0) cpus = std::min(cpus, static_cast<int>(quota));
  return std::max(cpus, 1);
}

}  // namespace donar
