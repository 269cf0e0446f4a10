// How an answer is written: as a chat or as a completion, in chunks or whole. Chunks are appended
// as SSE events.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/choice_text.h"
#include "server/logprobs_json.h"
#include "server/prompt.h"
#include "server/usage.h"

namespace donar::server {

struct ReplyHead {
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
};

// A whole choice, for answers that are not streamed.
struct ChoiceResult {
  ChoiceDelta all;
  const char* finish_reason = nullptr;
  json::value stop_reason;
  const Prompt* prompt = nullptr;
  const std::vector<engine::PositionLogprobs>* prompt_logprobs = nullptr;  // null: not asked for
};

class ReplyFormat {
 public:
  ReplyFormat(ReplyHead head, const CommonRequest& request, const text::Tokenizer& tokenizer)
      : head_(std::move(head)),
        request_(request),
        style_{tokenizer, std::max(0, request.sampling.num_logprobs),
               request.return_tokens_as_token_ids} {}
  virtual ~ReplyFormat() = default;

  // `usage` is null unless every chunk carries it.
  virtual void append_opening(std::string& out, int index, const Prompt& prompt,
                              const json::object* usage) = 0;
  virtual void append_delta(std::string& out, int index, const ChoiceDelta& delta,
                            const Prompt& prompt, const json::object* usage) = 0;
  virtual void append_finish(std::string& out, int index, const char* reason,
                             const json::value& stop_reason, const json::object* usage,
                             const json::object* timings) = 0;
  virtual std::string whole(const std::vector<ChoiceResult>& choices, json::object usage,
                            json::object timings) = 0;

  void append_usage(std::string& out, json::object usage, json::object timings) const {
    json::object chunk = new_chunk();
    chunk["choices"] = json::array{};
    chunk["usage"] = std::move(usage);
    chunk["timings"] = std::move(timings);
    append_event(out, chunk);
  }

  static void append_event(std::string& out, const json::object& object);
  const LogprobsStyle& style() const { return style_; }

 protected:
  virtual const char* chunk_object() const = 0;
  json::object new_chunk() const;
  bool wants_logprobs() const { return request_.sampling.num_logprobs >= 0; }
  static json::array ids_json(const std::vector<int32_t>& tokens, size_t skip = 0);

  ReplyHead head_;
  const CommonRequest& request_;
  LogprobsStyle style_;
};

std::unique_ptr<ReplyFormat> make_chat_reply(ReplyHead head, const CommonRequest& request,
                                             const text::Tokenizer& tokenizer);
std::unique_ptr<ReplyFormat> make_completion_reply(ReplyHead head, const CommonRequest& request,
                                                   const text::Tokenizer& tokenizer);

}  // namespace donar::server
