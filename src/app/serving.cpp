// See serving.h.
#include "app/serving.h"

#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <thread>

namespace donar::app {
namespace {

constexpr std::chrono::milliseconds kMemoryPeriod{500};

// Lets running requests finish; another signal aborts them.
void drain(engine::Engine& engine, std::chrono::seconds timeout, SignalWaiter& signals) {
  fmt::print(stderr, "Stopping: running requests may finish for {} s; once more to stop at once.\n",
             timeout.count());
  std::thread waiter([&] {
    engine.shutdown(timeout);
    signals.notify();
  });
  if (signals.wait() == SignalWaiter::Wake::kSignal) engine.shutdown(std::chrono::milliseconds(0));
  waiter.join();
}

// Sleeps until there is something to do. On CUDA graphs are captured while it serves, so that the
// memory in use changes.
void wait_for_end(engine::Engine& engine, server::Server& server, const Memory& memory,
                  SignalWaiter& signals) {
  const auto period = memory.cuda ? std::optional(kMemoryPeriod) : std::nullopt;
  engine.notify_failure([&signals] { signals.notify(); });
  while (engine.healthy()) {
    if (signals.wait(period) == SignalWaiter::Wake::kSignal) break;
    report_memory(server, memory);
  }
  engine.notify_failure({});
}

}  // namespace

void report_memory(server::Server& server, const Memory& memory) {
  const auto report = [&](const char* name, const MemoryLedger& ledger) {
    for (int i = 0; i < kNumMemoryUses; ++i) {
      const auto use = static_cast<MemoryUse>(i);
      server.set_memory_bytes(name, std::string(memory_use_name(use)), ledger.used(use));
    }
  };
  report("host", memory.host);
  if (memory.cuda) report("cuda", *memory.cuda);
}

Result<int> serve_until_stopped(engine::Engine& engine, server::Server& server,
                                const Memory& memory, SignalWaiter& signals,
                                std::chrono::seconds timeout) {
  wait_for_end(engine, server, memory, signals);
  server.begin_drain();
  if (engine.healthy()) drain(engine, timeout, signals);
  server.stop();
  if (!engine.healthy()) return fail(ErrorCode::kInternal, "the engine failed; see the log above");
  return 0;
}

}  // namespace donar::app
