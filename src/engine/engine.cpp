// The loop of the engine thread, and what other threads may ask of it. How an engine is put
// together is in engine_create.cpp.
#include <exception>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "engine/philox.h"
#include "engine/sampling_rules.h"

namespace donar::engine {

Result<void> Engine::Impl::run() {
  std::vector<Update> published;  // empty: its memory is used again
  while (take_inbox(/*block=*/scheduler.idle() && scheduler.num_in_flight() == 0)) {
    publish(scheduler.take_cancelled());
    const StepPlan& plan = scheduler.schedule();  // host data only; counts tokens in flight
    if (Result<void> launched = launch(plan); !launched) return launched;
    // While the device works on the newest step, the one before it is committed and published.
    const int depth = plan.empty() ? 0 : runner->depth();
    while (scheduler.num_in_flight() > depth) {
      Result<StepResult> result = runner->collect();
      clock.collected();
      if (!result) return forward_error(result);
      const bool is_graph = result->is_graph;
      std::vector<Update> updates = scheduler.commit(std::move(*result), std::move(published));
      report_step(is_graph);
      published = publish(std::move(updates));
    }
  }
  return {};
}

Result<void> Engine::Impl::launch(const StepPlan& plan) {
  if (plan.empty()) {
    report_gauges();  // something may have been cancelled
    return {};
  }
  clock.scheduled();
  Result<void> launched = runner->launch(plan);
  clock.launched(/*is_running=*/runner->depth() > 0);
  return launched;
}

void Engine::Impl::run_to_end() {
  Result<void> outcome;
  try {
    runner->start_thread();
    outcome = run();
  } catch (const std::exception& exception) {
    outcome = fail(ErrorCode::kInternal, "the engine stopped: {}", exception.what());
  }
  if (!outcome) {
    healthy.store(false);
    log_error("engine failed: {}", outcome.error().message);
  }
  inbox.close();
  for (std::unique_ptr<ActiveRequest>& request : inbox.drain(/*block=*/false))
    admit(std::move(request));
  const Error shutting_down{ErrorCode::kUnavailable, "the server is shutting down", {}};
  std::vector<Update> updates = outcome
                                    ? scheduler.abort_all(FinishReason::kAbort, shutting_down)
                                    : scheduler.abort_all(FinishReason::kError, outcome.error());
  report_gauges();
  publish(std::move(updates));
  if (outcome) return;
  std::lock_guard lock(failure_mutex);
  failed = true;
  if (on_failure) on_failure();
}

bool Engine::Impl::take_inbox(bool block) {
  while (block && inbox.size() == 0 && !inbox.closed() && runner->use_idle_moment()) {
  }
  for (std::unique_ptr<ActiveRequest>& request : inbox.drain(block)) admit(std::move(request));
  if (block) clock.woke();
  if (forget_cached.exchange(false)) scheduler.forget_cached();
  if (!inbox.closed()) return true;
  const bool has_work = !scheduler.idle() || inbox.size() > 0;
  return has_work && Clock::now().time_since_epoch() < Clock::duration(deadline.load());
}

void Engine::Impl::admit(std::unique_ptr<ActiveRequest> request) {
  if (!request) return;  // only a wake-up
  const Result<void> added = scheduler.add(request);
  DONAR_CHECK(added.has_value(), "submit let through: {}", added.error().message);
}

std::vector<Update> Engine::Impl::publish(std::vector<Update> updates) {
  if (updates.empty()) return updates;
  update_gauges();  // whoever sees a request's end sees its blocks at home
  for (Update& update : updates) {
    ActiveRequest& request = *update.request;
    const FinishReason reason = update.event.finish;
    if (listener && !update.event.tokens.empty()) {
      update.is_first_token ? listener->on_first_token(update.token_seconds)
                            : listener->on_inter_token(update.token_seconds);
    }
    if (listener && update.finished) listener->on_finish(request.timing, reason, request.request);
    request.stream->push(std::move(update.event));
    if (update.finished) request.stream->close(request.timing);
  }
  updates.clear();
  return updates;
}

EngineGauges Engine::Impl::update_gauges() {
  EngineGauges now = scheduler.gauges();
  now.waiting += static_cast<int>(inbox.size());
  std::lock_guard lock(gauges_mutex);
  return gauges = now;
}

void Engine::Impl::report_step(bool is_graph) {
  StepStats step = scheduler.step_stats();
  step.gauges = update_gauges();
  step.is_graph = is_graph;
  clock.fill(step);
  if (listener) listener->on_step(step);
}

void Engine::Impl::report_gauges() {
  StepStats nothing;
  nothing.gauges = update_gauges();
  if (listener) listener->on_step(nothing);
}

Result<Stream> Engine::submit(Request request) {
  if (!impl_->healthy.load())
    return fail(ErrorCode::kUnavailable, "the engine has failed: restart the server");
  if (impl_->inbox.closed()) return fail(ErrorCode::kUnavailable, "the server is shutting down");
  if (Result<void> valid = validate_request(request, impl_->limits); !valid)
    return forward_error(valid);

  QueueSlot slot(&impl_->num_queued);
  if (impl_->num_queued.fetch_add(1, std::memory_order_relaxed) >= impl_->max_queued) {
    return fail(ErrorCode::kResourceExhausted, "{} requests are waiting already: try again later",
                impl_->max_queued);
  }
  auto active = std::make_unique<ActiveRequest>();
  active->timing.arrived = Clock::now();
  active->request = std::move(request);
  merge_duplicates(active->request.sampling);
  if (!active->request.sampling.seed) {
    active->request.sampling.seed =
        philox_bits(impl_->seed, impl_->num_seeds.fetch_add(1, std::memory_order_relaxed));
  }
  active->queue_slot = std::move(slot);
  active->stream = std::make_shared<StreamState>();
  Stream stream(active->stream);
  // There is a place for every queue slot, so only a closed inbox refuses.
  if (!impl_->inbox.try_push(active))
    return fail(ErrorCode::kUnavailable, "the server is shutting down");
  return stream;
}

EngineGauges Engine::gauges() const {
  std::lock_guard lock(impl_->gauges_mutex);
  return impl_->gauges;
}

int64_t Engine::max_model_len() const { return impl_->limits.max_model_len; }

bool Engine::healthy() const { return impl_->healthy.load(); }

void Engine::notify_failure(std::function<void()> callback) {
  std::lock_guard lock(impl_->failure_mutex);
  impl_->on_failure = std::move(callback);
  if (impl_->failed && impl_->on_failure) impl_->on_failure();
}

void Engine::reset_prefix_cache() {
  std::unique_ptr<ActiveRequest> wake_up;
  if (!impl_->forget_cached.exchange(true)) impl_->inbox.try_push(wake_up);
}

void Engine::shutdown(std::chrono::milliseconds drain) {
  constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365);
  const Clock::rep end = (Clock::now() + std::clamp(drain, std::chrono::milliseconds(0), kForever))
                             .time_since_epoch()
                             .count();
  Clock::rep current = impl_->deadline.load();
  while (end < current && !impl_->deadline.compare_exchange_weak(current, end)) {
  }
  impl_->inbox.close();
  std::lock_guard lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace donar::engine
