// An engine without a model: every request gets the scripted answer, a token per step, on a thread
// of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine_api.h"

namespace donar::server::testing {

struct Script {
  std::vector<int32_t> tokens;        // of every choice
  std::optional<int32_t> end_token;   // after them, as the model's end or the request's stop token
  std::optional<int32_t> stop_token;  // reported as the one that ended it
  int cached_tokens = 0;
  std::optional<Error> error;  // after the tokens
};

class FakeEngine final : public engine::EngineApi {
 public:
  FakeEngine() : thread_([this] { run(); }) {}
  ~FakeEngine() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Set before the requests that they are for.
  std::function<Script(const engine::Request&)> script;
  std::atomic<int64_t> context{1000};
  std::atomic<bool> is_healthy{true};
  std::atomic<size_t> max_active{1000};  // more than that: the inbox is full
  std::atomic<int> step_ms{0};
  std::atomic<bool> held{false};  // no steps at all
  std::atomic<int> submitted{0}, finished{0}, aborted{0}, stopped{0}, choices_cancelled{0},
      resets{0};

  Result<engine::Stream> submit(engine::Request request) override {
    std::lock_guard lock(mutex_);
    if (active_.size() >= max_active)
      return fail(ErrorCode::kResourceExhausted, "the queue is full: try again soon");
    ++submitted;
    Active active;
    active.state = std::make_shared<engine::StreamState>();
    active.script = script ? script(request) : Script{};
    active.done.resize(static_cast<size_t>(request.num_choices));
    active.timing.arrived = Clock::now();
    active.timing.scheduled = active.timing.arrived;
    active.timing.prompt_tokens = static_cast<int>(request.prompt.size());
    active.timing.cached_tokens = active.script.cached_tokens;
    active.request = request;
    last_request_ = std::move(request);
    auto state = active.state;
    active_.push_back(std::move(active));
    changed_.notify_all();
    return engine::Stream(std::move(state));
  }
  engine::EngineGauges gauges() const override {
    std::lock_guard lock(mutex_);
    engine::EngineGauges gauges;
    gauges.running = static_cast<int>(active_.size());
    gauges.waiting = 3;
    gauges.kv_usage = 0.25;
    gauges.num_blocks = 64;
    gauges.free_blocks = 48;
    return gauges;
  }
  int64_t max_model_len() const override { return context; }
  bool healthy() const override { return is_healthy; }
  void reset_prefix_cache() override { ++resets; }

  engine::Request last_request() const {
    std::lock_guard lock(mutex_);
    return last_request_;
  }

  // Waits until `condition` holds; false if it does not within ten seconds.
  static bool eventually(const std::function<bool()>& condition) {
    const auto deadline = Clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (Clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

 private:
  struct Active {
    std::shared_ptr<engine::StreamState> state;
    engine::Request request;
    Script script;
    std::vector<bool> done;
    size_t position = 0;
    engine::RequestTiming timing;
  };

  static std::vector<engine::PositionLogprobs> logprobs_for(int32_t token, int count) {
    if (count < 0) return {};
    engine::PositionLogprobs position{{token, -0.5f, 1}};
    for (int i = 0; i < count; ++i)
      position.push_back({i == 0 ? token : token + i, -0.5f - static_cast<float>(i), i + 1});
    return {position};
  }

  // One token for every choice of a request; true when it has ended.
  bool step(Active& active) {
    const engine::FinishReason cancelled = active.state->cancelled();
    if (cancelled != engine::FinishReason::kNone) {
      ++(cancelled == engine::FinishReason::kStop ? stopped : aborted);
      return true;
    }
    for (const int choice : active.state->take_cancelled_choices()) {
      ++choices_cancelled;
      active.done[static_cast<size_t>(choice)] = true;
    }
    const auto& tokens = active.script.tokens;
    const size_t limit = std::min(tokens.size(), static_cast<size_t>(active.request.max_tokens));
    bool all_done = true;
    for (size_t choice = 0; choice < active.done.size(); ++choice) {
      if (active.done[choice]) continue;
      engine::TokenEvent event;
      event.choice = static_cast<int>(choice);
      if (active.position == 0) {
        event.cached_tokens = active.script.cached_tokens;
        if (active.request.sampling.num_prompt_logprobs >= 0) {
          event.prompt_logprobs.emplace_back();
          for (size_t i = 1; i < active.request.prompt.size(); ++i)
            event.prompt_logprobs.push_back(
                logprobs_for(active.request.prompt[i], active.request.sampling.num_prompt_logprobs)
                    .front());
        }
      }
      if (active.position < limit) {
        const int32_t token = tokens[active.position];
        event.tokens = {token};
        event.logprobs = logprobs_for(token, active.request.sampling.num_logprobs);
        if (active.position + 1 == limit && limit < tokens.size())
          event.finish = engine::FinishReason::kLength;
      } else if (active.script.error) {
        event.finish = engine::FinishReason::kError;
        event.error = active.script.error;
      } else if (active.script.end_token && limit == tokens.size()) {
        event.tokens = {*active.script.end_token};
        event.logprobs =
            logprobs_for(*active.script.end_token, active.request.sampling.num_logprobs);
        event.ended_by_token = true;
        event.stop_token = active.script.stop_token;
        event.finish = engine::FinishReason::kStop;
      } else {
        event.finish = engine::FinishReason::kLength;
      }
      if (active.timing.first_token == TimePoint{}) active.timing.first_token = Clock::now();
      active.timing.last_token = Clock::now();
      active.timing.generated_tokens += static_cast<int>(event.tokens.size());
      active.done[choice] = event.finish != engine::FinishReason::kNone;
      all_done = all_done && active.done[choice];
      active.state->push(std::move(event));
    }
    ++active.position;
    if (all_done) ++finished;
    return all_done;
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return ending_ || !active_.empty(); });
      if (ending_) break;
      // Steps run without the lock, as the real engine's do.
      std::deque<Active> mine;
      mine.swap(active_);
      lock.unlock();
      std::erase_if(mine, [&](Active& active) {
        const bool gone = active.state->cancelled() != engine::FinishReason::kNone;
        if ((held && !gone) || !step(active)) return false;
        active.state->close(active.timing);
        return true;
      });
      std::this_thread::sleep_for(held ? std::chrono::milliseconds(1)
                                       : std::chrono::milliseconds(step_ms));
      lock.lock();
      for (Active& late : active_) mine.push_back(std::move(late));
      active_ = std::move(mine);
    }
    for (Active& active : active_) active.state->close(active.timing);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Active> active_;
  engine::Request last_request_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace donar::server::testing
