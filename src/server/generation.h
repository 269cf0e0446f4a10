// A request at work: submits its prompts to the engine, turns token events into chunks or one
// reply, and gives up when the client does. Lives on the connection's I/O thread; the engine only
// posts to it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_api.h"
#include "server/http_types.h"
#include "server/reply_format.h"
#include "server/server.h"

namespace donar::server {

// A request that is ready for the engine.
struct GenerationJob {
  std::shared_ptr<const ServedModel> model;
  CommonRequest request;
  engine::SamplingParams sampling;
  std::vector<Prompt> prompts;
  std::vector<int> max_tokens;  // one per prompt
  bool chat = false;
  ReplyHead head;
  std::chrono::milliseconds keepalive_comment{5000};
  bool force_include_usage = false;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `num_active` counts generations for /load.
  Generation(std::shared_ptr<Exchange> exchange, GenerationJob job, std::atomic<int>& num_active);
  ~Generation();

  void start();

 private:
  struct Choice {
    ChoiceText text;
    ChoiceDelta pending;  // what has not been sent; everything, if the answer is not streamed
    bool finish_sent = false;
    bool opened = false;  // the echoed prompt is in
  };
  // One prompt with its n choices.
  struct Slot {
    size_t prompt = 0;
    engine::Stream stream;
    std::vector<Choice> choices;
    std::vector<engine::PositionLogprobs> prompt_logprobs;
    int cached_tokens = 0;
    TimePoint submitted{}, first_event{}, last_event{};
    bool got_event = false;
    bool done = false;  // all choices finished; the timing is in
  };

  // Submits prompts that have not been, as many as the inbox takes. False: the request has failed
  // and is answered.
  bool submit_more();
  void pump();
  bool take_events(Slot& slot);  // false: failed
  void take_event(Slot& slot, engine::TokenEvent event);
  void open_choice(Slot& slot, Choice& choice);
  void cancel_stopped(Slot& slot, int choice);
  bool slot_finished(const Slot& slot) const;
  engine::RequestTiming timing_of(const Slot& slot) const;

  void send_opening(Slot& slot);
  void send_news();
  void append_choice_news(Slot& slot, int index, bool last, std::string& out);
  bool send_whole();
  void finish_stream(std::string& out);
  void fail(const Error& error);
  void close();
  void write(const std::string& text);
  void keep_alive();

  Usage usage() const;
  int index_of(const Slot& slot, int choice) const {
    return static_cast<int>(slot.prompt) * job_.request.n + choice;
  }

  std::shared_ptr<Exchange> exchange_;
  GenerationJob job_;
  std::unique_ptr<ReplyFormat> format_;
  std::atomic<int>& num_active_;
  std::vector<std::unique_ptr<Slot>> slots_;  // submitted so far, in the order of the prompts
  Timings timings_;
  std::atomic<bool> pump_posted_{false};
  bool streaming_ = false;  // the head is out
  bool ended_ = false;
  TimePoint last_write_{};
};

}  // namespace donar::server
