// What an Engine consists of. Private to engine.cpp and engine_create.cpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/step_clock.h"
#include "engine/validate.h"

namespace donar::engine {

struct Engine::Impl {
  Impl(const EngineConfig& config, const RequestLimits& request_limits,
       const SchedulerConfig& scheduler_config, int64_t num_blocks, StatsListener* stats_listener);

  // Engine thread.
  void run_to_end();
  Result<void> run();
  Result<void> launch(const StepPlan& plan);
  bool take_inbox(bool block);  // false: the engine is to stop
  void admit(std::unique_ptr<ActiveRequest> request);
  std::vector<Update> publish(std::vector<Update> updates);  // cleared, for its memory
  EngineGauges update_gauges();
  void report_step(bool is_graph);
  void report_gauges();

  // Const after creation.
  RequestLimits limits;
  const int max_queued;
  const uint64_t seed;
  StatsListener* const listener;
  model::ModelConfig model_config;  // of runner; empty in tests
  model::Weights weights;           // likewise
  std::unique_ptr<StepRunner> runner;

  // Any thread.
  std::atomic<int> num_queued{0};      // requests that have not started, in the inbox or not
  std::atomic<uint64_t> num_seeds{0};  // drawn for requests without one
  std::atomic<bool> healthy{true};
  std::atomic<bool> forget_cached{false};
  std::atomic<Clock::rep> deadline{
      std::numeric_limits<Clock::rep>::max()};  // of what still runs once the inbox is closed
  BoundedQueue<std::unique_ptr<ActiveRequest>> inbox;  // null: a wake-up
  std::mutex gauges_mutex;
  EngineGauges gauges;

  Scheduler scheduler;  // engine thread
  StepClock clock;      // likewise

  std::mutex failure_mutex;
  bool failed = false;               // under failure_mutex: nothing is left to be ended
  std::function<void()> on_failure;  // likewise

  std::mutex join_mutex;
  std::thread thread;
};

}  // namespace donar::engine
