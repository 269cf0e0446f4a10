// The queue of one request between the engine thread and its reader. The callback runs under the
// queue's lock: it may only post, and so set_on_ready({}) cannot return while it runs.
#include "engine/stream.h"

namespace donar::engine {

void StreamState::push(TokenEvent event) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  events_.push_back(std::move(event));
  ready_.notify_all();
  if (on_ready_) on_ready_();
}

void StreamState::close(const RequestTiming& timing) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  timing_ = timing;
  closed_ = true;
  ready_.notify_all();
  if (on_ready_) on_ready_();
}

void StreamState::set_timing(const RequestTiming& timing) {
  std::lock_guard lock(mutex_);
  timing_ = timing;
}

std::optional<TokenEvent> StreamState::try_pop() {
  std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::optional<TokenEvent> StreamState::pop() {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [&] { return closed_ || !events_.empty(); });
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool StreamState::closed() const {
  std::lock_guard lock(mutex_);
  return closed_ && events_.empty();
}

RequestTiming StreamState::timing() const {
  std::lock_guard lock(mutex_);
  return timing_;
}

void StreamState::set_on_ready(std::function<void()> on_ready) {
  std::lock_guard lock(mutex_);
  on_ready_ = std::move(on_ready);
  if (on_ready_ && (closed_ || !events_.empty())) on_ready_();
}

void StreamState::cancel(FinishReason reason) {
  FinishReason none = FinishReason::kNone;
  cancel_.compare_exchange_strong(none, reason, std::memory_order_acq_rel);
}

void StreamState::cancel_choice(int choice) {
  std::lock_guard lock(mutex_);
  cancelled_choices_.push_back(choice);
  any_choice_cancelled_.store(true, std::memory_order_release);
}

std::vector<int> StreamState::take_cancelled_choices() {
  if (!any_choice_cancelled_.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(mutex_);
  any_choice_cancelled_.store(false, std::memory_order_relaxed);
  return std::exchange(cancelled_choices_, {});
}

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    Stream old(std::move(state_));  // aborts what this one held
    state_ = std::move(other.state_);
  }
  return *this;
}

Stream::~Stream() {
  if (!state_) return;
  state_->set_on_ready({});
  state_->cancel(FinishReason::kAbort);
}

}  // namespace donar::engine
