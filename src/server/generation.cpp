// From submit to the last chunk; every way a request can end is in here.
#include "server/generation.h"

#include <algorithm>
#include <utility>

#include "server/error_reply.h"

namespace donar::server {

using engine::FinishReason;

Generation::Generation(std::shared_ptr<Exchange> exchange, GenerationJob job,
                       std::atomic<int>& num_active)
    : exchange_(std::move(exchange)), job_(std::move(job)), num_active_(num_active) {
  ++num_active_;
  const text::Tokenizer& tokenizer = *job_.model->tokenizer;
  format_ = job_.chat ? make_chat_reply(job_.head, job_.request, tokenizer)
                      : make_completion_reply(job_.head, job_.request, tokenizer);
}

Generation::~Generation() {
  slots_.clear();  // aborts what is unfinished
  --num_active_;
}

void Generation::start() {
  if (exchange_->closed()) return;
  const auto self = shared_from_this();
  exchange_->on_close([self] { self->close(); });
  exchange_->on_shutdown([self] {
    self->fail({ErrorCode::kUnavailable, "the server is shutting down", {}});
  });
  if (!submit_more()) return;
  if (job_.request.stream) {
    streaming_ = true;
    last_write_ = Clock::now();
    Response head;
    head.content_type = "text/event-stream; charset=utf-8";
    head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    exchange_->begin_stream(std::move(head));
    for (auto& slot : slots_) send_opening(*slot);
    keep_alive();
  }
}

bool Generation::submit_more() {
  while (slots_.size() < job_.prompts.size()) {
    const size_t index = slots_.size();
    engine::Request request;
    request.prompt = job_.prompts[index].tokens;
    request.sampling = job_.sampling;
    request.num_choices = job_.request.n;
    request.max_tokens = job_.max_tokens[index];
    request.cache_salt = hash_cache_salt(job_.request.cache_salt);
    auto stream = job_.model->engine->submit(std::move(request));
    if (!stream) {
      // Once some prompts are in, the others wait for room.
      const bool others_run =
          std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) { return !slot->done; });
      if (stream.error().code == ErrorCode::kResourceExhausted && others_run) return true;
      fail(stream.error());
      return false;
    }
    auto slot = std::make_unique<Slot>();
    slot->prompt = index;
    slot->submitted = Clock::now();
    slot->stream = std::move(*stream);
    for (int i = 0; i < job_.request.n; ++i)
      slot->choices.push_back(
          {ChoiceText(*job_.model->tokenizer, job_.request, job_.prompts[index].tokens), {}});
    slots_.push_back(std::move(slot));
    // On the engine thread. The destructor of the stream waits for this to return, so `this` is
    // alive.
    slots_.back()->stream.set_on_ready([this] {
      if (pump_posted_.exchange(true)) return;
      exchange_->post([weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->pump();
      });
    });
    if (streaming_) send_opening(*slots_.back());
  }
  return true;
}

void Generation::send_opening(Slot& slot) {
  const json::object usage_now = usage_json(usage());
  std::string out;
  for (int i = 0; i < job_.request.n; ++i)
    format_->append_opening(out, index_of(slot, i), job_.prompts[slot.prompt],
                            job_.request.continuous_usage_stats ? &usage_now : nullptr);
  write(out);
}

void Generation::pump() {
  const auto self = shared_from_this();
  pump_posted_ = false;
  if (ended_) return;
  bool room = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = *slots_[i];
    if (slot.done) continue;
    if (!take_events(slot)) return;
    room = room || slot.done;
  }
  if (room && !submit_more()) return;
  if (streaming_) {
    send_news();
  } else if (!job_.request.stream) {
    send_whole();
  }
}

bool Generation::take_events(Slot& slot) {
  while (auto event = slot.stream.try_pop()) {
    if (event->finish == FinishReason::kError) {
      fail(event->error.value_or(Error{ErrorCode::kInternal, "the engine has failed", {}}));
      return false;
    }
    if (event->finish == FinishReason::kAbort) {
      const size_t choice = static_cast<size_t>(event->choice);
      if (choice < slot.choices.size() && slot.choices[choice].text.finished())
        continue;  // our own cancel
      fail({ErrorCode::kUnavailable, "the request was aborted: the server is shutting down", {}});
      return false;
    }
    take_event(slot, std::move(*event));
  }
  if (!slot_finished(slot)) {
    if (!slot.stream.finished()) return true;
    fail({ErrorCode::kInternal, "the engine ended the request without a reason", {}});
    return false;
  }
  // The engine's own end carries its timing; a stop string that was found need not wait for it.
  const bool by_text =
      std::any_of(slot.choices.begin(), slot.choices.end(),
                  [](const Choice& choice) { return choice.text.stopped_by_text(); });
  if (slot.stream.finished() || by_text) {
    slot.done = true;
    timings_.add(timing_of(slot));
  }
  return true;
}

// The engine's times, or, where a stop string ended the request before the engine did, what was
// seen from here.
engine::RequestTiming Generation::timing_of(const Slot& slot) const {
  engine::RequestTiming timing = slot.stream.timing();
  if (timing.first_token == TimePoint{}) {
    if (timing.scheduled == TimePoint{}) timing.scheduled = slot.submitted;
    timing.first_token = slot.first_event;
  }
  if (timing.last_token == TimePoint{}) timing.last_token = slot.last_event;
  return timing;
}

void Generation::take_event(Slot& slot, engine::TokenEvent event) {
  if (!event.tokens.empty()) slot.last_event = Clock::now();
  if (!slot.got_event) {
    slot.got_event = true;
    slot.first_event = Clock::now();
    slot.cached_tokens = event.cached_tokens;
    slot.prompt_logprobs = std::move(event.prompt_logprobs);
  }
  if (event.choice < 0 || static_cast<size_t>(event.choice) >= slot.choices.size()) return;
  const int index = event.choice;
  Choice& choice = slot.choices[static_cast<size_t>(index)];
  if (choice.text.finished()) return;  // beyond a stop string
  open_choice(slot, choice);
  choice.text.accept(std::move(event), choice.pending);
  if (choice.text.finished() && choice.text.stopped_by_text()) cancel_stopped(slot, index);
}

// The echoed prompt leads the first text of a completion.
void Generation::open_choice(Slot& slot, Choice& choice) {
  if (choice.opened) return;
  choice.opened = true;
  if (!job_.request.echo || job_.chat) return;
  const Prompt& prompt = job_.prompts[slot.prompt];
  choice.pending.text = prompt.text;
  if (job_.request.sampling.num_logprobs < 0) return;
  choice.pending.tokens = prompt.tokens;
  choice.pending.num_prompt_tokens = prompt.tokens.size();
  choice.pending.logprobs = slot.prompt_logprobs;
  choice.pending.logprobs.resize(prompt.tokens.size());
}

void Generation::cancel_stopped(Slot& slot, int choice) {
  if (slot_finished(slot)) {
    slot.stream.cancel(FinishReason::kStop);
  } else {
    slot.stream.cancel_choice(choice);
  }
}

bool Generation::slot_finished(const Slot& slot) const {
  return std::all_of(slot.choices.begin(), slot.choices.end(),
                     [](const Choice& choice) { return choice.text.finished(); });
}

Usage Generation::usage() const {
  Usage total;
  for (const auto& slot : slots_) {
    total.prompt_tokens += static_cast<int64_t>(job_.prompts[slot->prompt].tokens.size());
    total.cached_tokens += slot->cached_tokens;
    for (const Choice& choice : slot->choices) total.completion_tokens += choice.text.num_tokens();
  }
  return total;
}

// Everything that has come since the last turn, in one write.
void Generation::send_news() {
  size_t unfinished = 0;
  for (const auto& slot : slots_)
    for (const Choice& choice : slot->choices)
      if (!choice.finish_sent) ++unfinished;
  unfinished += (job_.prompts.size() - slots_.size()) * static_cast<size_t>(job_.request.n);
  std::string out;
  for (auto& slot : slots_) {
    for (int i = 0; i < job_.request.n; ++i) {
      Choice& choice = slot->choices[static_cast<size_t>(i)];
      if (choice.finish_sent) continue;
      append_choice_news(*slot, i, unfinished == 1, out);
      if (choice.finish_sent) --unfinished;
    }
  }
  if (unfinished == 0) {
    finish_stream(out);
  } else {
    write(out);
  }
}

// The very last finish waits until the timing is in, and carries it.
void Generation::append_choice_news(Slot& slot, int index, bool last, std::string& out) {
  Choice& choice = slot.choices[static_cast<size_t>(index)];
  ChoiceDelta& news = choice.pending;
  const bool show_tokens = job_.request.sampling.num_logprobs >= 0 || job_.request.return_token_ids;
  const json::object usage_now =
      job_.request.continuous_usage_stats ? usage_json(usage()) : json::object();
  const json::object* each = job_.request.continuous_usage_stats ? &usage_now : nullptr;
  if (!news.text.empty() || (show_tokens && !news.tokens.empty())) {
    format_->append_delta(out, index_of(slot, index), news, job_.prompts[slot.prompt], each);
    news = ChoiceDelta{};
  }
  if (!choice.text.finished() || (last && !slot.done)) return;
  choice.finish_sent = true;
  const int sequences = static_cast<int>(slots_.size()) * job_.request.n;
  const json::object timings = last ? timings_.to_json(usage(), sequences) : json::object();
  format_->append_finish(out, index_of(slot, index), choice.text.finish_reason(),
                         choice.text.stop_reason(), each, last ? &timings : nullptr);
}

void Generation::finish_stream(std::string& out) {
  if (job_.request.include_usage || job_.force_include_usage) {
    const Usage total = usage();
    const int sequences = static_cast<int>(slots_.size()) * job_.request.n;
    format_->append_usage(out, usage_json(total), timings_.to_json(total, sequences));
  }
  out += "data: [DONE]\n\n";
  write(out);
  close();
  exchange_->end_stream();
}

bool Generation::send_whole() {
  if (slots_.size() < job_.prompts.size()) return false;
  if (!std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->done; }))
    return false;  // before anything is moved out
  std::vector<ChoiceResult> results;
  for (auto& slot : slots_) {
    for (Choice& choice : slot->choices) {
      ChoiceResult result;
      result.all = std::move(choice.pending);
      result.finish_reason = choice.text.finish_reason();
      result.stop_reason = choice.text.stop_reason();
      result.prompt = &job_.prompts[slot->prompt];
      if (job_.request.sampling.num_prompt_logprobs >= 0)
        result.prompt_logprobs = &slot->prompt_logprobs;
      results.push_back(std::move(result));
    }
  }
  const Usage total = usage();
  Response response;
  response.body = format_->whole(results, usage_json(total),
                                 timings_.to_json(total, static_cast<int>(results.size())));
  close();
  exchange_->respond(std::move(response));
  return true;
}

// Before the head is out an error has a status of its own; afterwards it is an event in the stream.
void Generation::fail(const Error& error) {
  if (ended_) return;
  close();
  if (!streaming_) {
    exchange_->respond(error_response(error));
    return;
  }
  json::object event;
  event["error"] = error_object(http_status(error.code), error.message, error.param);
  event["choices"] = json::array{};
  std::string out;
  ReplyFormat::append_event(out, event);
  out += "data: [DONE]\n\n";
  exchange_->write(out);
  exchange_->end_stream();
}

void Generation::close() {
  ended_ = true;
  for (auto& slot : slots_) slot->stream = engine::Stream();  // aborts what is unfinished
}

void Generation::write(const std::string& text) {
  if (text.empty()) return;
  exchange_->write(text);
  last_write_ = Clock::now();
}

// Proxies and people take silence for death: a comment breaks it.
void Generation::keep_alive() {
  const auto silence =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - last_write_);
  std::chrono::milliseconds wait = job_.keepalive_comment - silence;
  if (wait.count() <= 0) {
    write(": keep-alive\n\n");
    wait = job_.keepalive_comment;
  }
  exchange_->set_timer(wait + std::chrono::milliseconds(1), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && !self->ended_) self->keep_alive();
  });
}

}  // namespace donar::server
