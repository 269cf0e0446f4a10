// A request in flight, as its HTTP thread holds it. Destroying it aborts the request.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/request.h"

namespace donar::engine {

// The queue between the engine thread and one reader. Bounded by what the request may generate.
class StreamState {
 public:
  // Engine side.
  void push(TokenEvent event);
  void close(const RequestTiming& timing);  // after the last event of the last choice
  void set_timing(const RequestTiming& timing);

  // Reader side.
  std::optional<TokenEvent> try_pop();
  std::optional<TokenEvent> pop();  // blocks; nullopt once closed and empty
  bool closed() const;              // closed and empty: nothing more will come
  RequestTiming timing() const;
  void set_on_ready(std::function<void()> on_ready);

  // Cancel is a message: the reader raises it, the engine looks once per step. The first reason
  // stays.
  void cancel(FinishReason reason);
  FinishReason cancelled() const { return cancel_.load(std::memory_order_acquire); }
  void cancel_choice(int choice);             // stop string found in one choice of several
  std::vector<int> take_cancelled_choices();  // engine side

 private:
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<TokenEvent> events_;
  std::function<void()> on_ready_;
  std::vector<int> cancelled_choices_;
  RequestTiming timing_;
  bool closed_ = false;
  std::atomic<FinishReason> cancel_{FinishReason::kNone};
  std::atomic<bool> any_choice_cancelled_{false};  // spares the engine a lock per request and step
};

class Stream {
 public:
  Stream() = default;
  explicit Stream(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}
  Stream(Stream&&) = default;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();  // aborts if unfinished

  std::optional<TokenEvent> try_pop() { return state_->try_pop(); }
  std::optional<TokenEvent> pop() { return state_->pop(); }
  bool finished() const { return state_->closed(); }
  RequestTiming timing() const { return state_->timing(); }

  // Called on the engine thread whenever something was pushed or closed (and at once if there
  // already is something). It must only post to the reader's own executor. An empty function
  // removes it; after that returns it is not running.
  void set_on_ready(std::function<void()> on_ready) { state_->set_on_ready(std::move(on_ready)); }

  // Ends all choices, or one. A stop string that was found cancels with kStop; a client that is
  // gone, with kAbort.
  void cancel(FinishReason reason) { state_->cancel(reason); }
  void cancel_choice(int choice) { state_->cancel_choice(choice); }

 private:
  std::shared_ptr<StreamState> state_;
};

}  // namespace donar::engine
