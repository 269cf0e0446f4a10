// The fork-join pool. Pieces are claimed by a compare-and-swap on the number that is left, so a
// worker that sleeps or was descheduled before it claimed anything is never waited for; CoreShare
// keeps one from being descheduled after.
#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/core_share.h"
#include "base/thread_placement.h"

namespace donar {
namespace {

constexpr std::chrono::microseconds kSpin{50};
// A worker that was woken runs after 10 to 50 us, unless it waits for a CPU.
constexpr std::chrono::microseconds kLateWake{100};
constexpr std::chrono::milliseconds kMovePeriod{50};

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

using FutexWord = std::atomic<uint32_t>;
static_assert(sizeof(FutexWord) == 4);

void futex_wait(FutexWord& word, uint32_t expected, const timespec* timeout = nullptr) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout, nullptr, 0);
}

void futex_wake(FutexWord& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

// What a thread reads next: told by the caller of the pool, asked for by the thread. Told anew
// meanwhile, the thread may see a part of it, and asks for what nobody needs.
class alignas(64) ReadAhead {
 public:
  using Bytes = std::span<const std::byte>;

  void tell(Bytes first, Bytes second) {
    told_[0].set(first);
    told_[1].set(second);
  }

  // The thread's own side.
  void look() {
    for (int i = 0; i < 2; ++i) {
      const std::byte* at = told_[i].at.load(std::memory_order_relaxed);
      if (at == seen_[i]) continue;
      seen_[i] = next_[i] = at;
      end_[i] = at + told_[i].size.load(std::memory_order_relaxed);
    }
  }
  // Asks for some lines of each; false if all are asked for.
  bool ask() {
    bool asked = false;
    for (int i = 0; i < 2; ++i) {
      if (next_[i] >= end_[i]) continue;
      for (int line = 0; line < 2; ++line, next_[i] += 64) __builtin_prefetch(next_[i], 0, 2);
      asked = true;
    }
    return asked;
  }

 private:
  struct Told {
    std::atomic<const std::byte*> at{nullptr};
    std::atomic<size_t> size{0};
    void set(Bytes bytes) {
      at.store(bytes.data(), std::memory_order_relaxed);
      size.store(bytes.size(), std::memory_order_relaxed);
    }
  };
  Told told_[2];
  const std::byte* seen_[2] = {};
  const std::byte* next_[2] = {};
  const std::byte* end_[2] = {};
};

// Spins until `done` or, if it began at `begin`, the time is up; true if done.
template <class Done>
bool spin_until(Done done, TimePoint begin, ReadAhead& ahead) {
  if (done()) return true;
  ahead.look();
  const TimePoint deadline = begin + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      if (!ahead.ask()) pause_cpu();
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
  const FunctionRef<void(int, int64_t, int64_t)>* body = nullptr;

  alignas(64) FutexWord unclaimed{0};   // pieces that nobody has taken
  alignas(64) FutexWord unfinished{0};  // pieces that are not done
  std::atomic<uint32_t> caller_sleeps{0};
  alignas(64) FutexWord epoch{0};     // one more per job; what idle workers watch
  std::atomic<uint32_t> sleepers{0};  // workers that wait for a job, or were woken and do not run
  std::atomic<int> caller_cpu{-1};    // when it last woke a worker
  FutexWord stop{0};

  // Caller only: some worker has not woken up. Not on a line that workers watch.
  alignas(64) bool wakes_workers = false;
  TimePoint move_at{};

  struct Worker {
    int thread = 0;
    std::atomic<pid_t> id{0};
    std::atomic<bool> sleeps{false};
    std::thread runs;
  };
  std::vector<Worker> workers;
  std::vector<ReadAhead> ahead;  // by thread

  // Claims and runs a piece; false if there was none.
  bool run_piece(int thread) {
    uint32_t left = unclaimed.load(std::memory_order_acquire);
    do {
      if (left == 0) return false;
      // A success is a claim on the job that is current, even if `left` was read from an earlier
      // one.
    } while (!unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel));
    const int64_t begin = static_cast<int64_t>(num_chunks - left) * chunk;
    (*body)(thread, begin, std::min(begin + chunk, count));
    if (unfinished.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
        caller_sleeps.load(std::memory_order_seq_cst) != 0) {
      futex_wake(unfinished, 1);
    }
    return true;
  }

  void work(Worker& self) {
    self.id.store(this_thread_id(), std::memory_order_relaxed);
    ReadAhead& mine = ahead[static_cast<size_t>(self.thread)];
    CoreShare share;
    const auto woke = [&] { share.wake(this_thread_time()); };
    woke();
    uint32_t seen = 0;
    for (TimePoint now = Clock::now();;) {
      const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!spin_until(changed, now, mine)) {
        self.sleeps.store(true, std::memory_order_release);
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        while (epoch.load(std::memory_order_seq_cst) == seen) futex_wait(epoch, seen);
        sleepers.fetch_sub(1, std::memory_order_seq_cst);
        self.sleeps.store(false, std::memory_order_relaxed);
        // The caller waits for this CPU if it has not been moved meanwhile.
        const int cpu = this_cpu();
        if (cpu == caller_cpu.load(std::memory_order_relaxed)) leave_cpu(self.id, cpu);
        woke();
      }
      // In this order: the change that says stop must not be taken for one that was seen.
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire) != 0) return;
      for (bool more = true; more;) {
        // The clock is read after every piece only where it matters: a piece may last a
        // microsecond.
        do more = run_piece(self.thread);
        while (more && !share.shares());
        now = Clock::now();
        if (!share.due(now)) continue;
        const Clock::duration rest = share.check(this_thread_time());
        if (rest == Clock::duration::zero()) continue;
        sleep_unless_stopped(rest);
        woke();
        more = true;
      }
    }
  }

  // Not woken by jobs: others run them.
  void sleep_unless_stopped(Clock::duration length) {
    const timespec timeout{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(length).count()};
    futex_wait(stop, 0, &timeout);
  }

  void announce(uint32_t wanted) {
    epoch.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) == 0) {
      wakes_workers = false;
      return;
    }
    caller_cpu.store(this_cpu(), std::memory_order_relaxed);
    futex_wake(epoch, static_cast<int>(wanted));
    if (!std::exchange(wakes_workers, true)) move_at = Clock::now() + kLateWake;
  }

  // A worker that was woken on the caller's CPU would wait there until the caller is through.
  void move_late_workers() {
    const TimePoint now = Clock::now();
    if (now < move_at) return;
    move_at = now + kMovePeriod;
    const int cpu = this_cpu();
    for (Worker& worker : workers) {
      if (worker.sleeps.load(std::memory_order_acquire)) leave_cpu(worker.id, cpu);
    }
  }

  void wait_for_others() {
    const auto done = [&] { return unfinished.load(std::memory_order_acquire) == 0; };
    if (done() || spin_until(done, Clock::now(), ahead[0])) return;
    caller_sleeps.store(1, std::memory_order_seq_cst);
    for (uint32_t left; (left = unfinished.load(std::memory_order_seq_cst)) != 0;) {
      futex_wait(unfinished, left);
    }
    caller_sleeps.store(0, std::memory_order_relaxed);
  }

  // A job: [0, total) in pieces of `size`.
  void run(int64_t total, int64_t size, FunctionRef<void(int, int64_t, int64_t)> piece) {
    if (total <= 0) return;
    size = std::max<int64_t>(size, 1);
    const int64_t pieces = (total + size - 1) / size;
    DONAR_CHECK(pieces <= INT32_MAX, "{} pieces", pieces);
    if (pieces == 1 || workers.empty()) {
      for (int64_t begin = 0; begin < total; begin += size)
        piece(/*thread=*/0, begin, std::min(begin + size, total));
      return;
    }
    count = total;
    chunk = size;
    num_chunks = static_cast<uint32_t>(pieces);
    body = &piece;
    unfinished.store(num_chunks, std::memory_order_relaxed);
    unclaimed.store(num_chunks, std::memory_order_release);
    announce(num_chunks - 1);
    while (run_piece(/*thread=*/0)) {
      if (wakes_workers) move_late_workers();
    }
    wait_for_others();
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  DONAR_CHECK(num_threads >= 1 && num_threads <= kMostThreads, "a pool of {} threads", num_threads);
  state_->workers = std::vector<State::Worker>(static_cast<size_t>(num_threads - 1));
  state_->ahead = std::vector<ReadAhead>(static_cast<size_t>(num_threads));
  int thread = 0;
  for (State::Worker& worker : state_->workers) {
    worker.thread = ++thread;
    worker.runs = std::thread([state = state_.get(), &worker] { state->work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(1, std::memory_order_release);
  futex_wake(state_->stop, num_threads());
  state_->announce(static_cast<uint32_t>(state_->workers.size()));
  for (State::Worker& worker : state_->workers) worker.runs.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t count, int64_t chunk,
                              FunctionRef<void(int64_t begin, int64_t end)> body) {
  state_->run(count, chunk, [&](int, int64_t begin, int64_t end) { body(begin, end); });
}

void ThreadPool::parallel_threads(int64_t calls, FunctionRef<void(int thread)> body) {
  state_->run(calls, /*size=*/1, [&](int thread, int64_t, int64_t) { body(thread); });
}

void ThreadPool::read_ahead(int thread, std::span<const std::byte> first,
                            std::span<const std::byte> second) {
  state_->ahead[static_cast<size_t>(thread)].tell(first, second);
}

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
  const double quota = read_cgroup_limits().cpus;
  // Whole CPUs only: a thread beyond the quota is throttled in the middle of a fork.
  if (quota > 0) cpus = std::min(cpus, static_cast<int>(quota));
  return std::clamp(cpus, 1, ThreadPool::kMostThreads);
}

}  // namespace donar
