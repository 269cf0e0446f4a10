// Answers to /v1/completions.
#include <map>

#include "server/json_text.h"
#include "server/reply_format.h"

namespace donar::server {
namespace {

class CompletionReply final : public ReplyFormat {
 public:
  using ReplyFormat::ReplyFormat;

  void append_opening(std::string&, int, const Prompt&, const json::object*) override {}

  void append_delta(std::string& out, int index, const ChoiceDelta& delta, const Prompt& prompt,
                    const json::object* usage) override {
    json::object choice;
    choice["index"] = index;
    choice["text"] = delta.text;
    choice["logprobs"] = wants_logprobs() && !delta.tokens.empty()
                             ? json::value(completion_logprobs(style_, delta.tokens, delta.logprobs,
                                                               offsets_[index]))
                             : json::value();
    choice["finish_reason"] = nullptr;
    choice["stop_reason"] = nullptr;
    if (request_.return_token_ids) {
      choice["token_ids"] = ids_json(delta.tokens, delta.num_prompt_tokens);
      if (!opened_[index]) choice["prompt_token_ids"] = ids_json(prompt.tokens);
      opened_[index] = true;
    }
    append_choice(out, std::move(choice), usage, nullptr);
  }

  void append_finish(std::string& out, int index, const char* reason,
                     const json::value& stop_reason, const json::object* usage,
                     const json::object* timings) override {
    json::object choice;
    choice["index"] = index;
    choice["text"] = "";
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = reason;
    choice["stop_reason"] = stop_reason;
    append_choice(out, std::move(choice), usage, timings);
  }

  std::string whole(const std::vector<ChoiceResult>& choices, json::object usage,
                    json::object timings) override {
    json::object reply;
    reply["id"] = head_.id;
    reply["object"] = "text_completion";
    reply["created"] = head_.created;
    reply["model"] = head_.model;
    json::array list;
    for (const ChoiceResult& choice : choices) {
      size_t offset = 0;
      json::object out;
      out["index"] = static_cast<int64_t>(list.size());
      out["text"] = choice.all.text;
      out["logprobs"] = wants_logprobs()
                            ? json::value(completion_logprobs(style_, choice.all.tokens,
                                                              choice.all.logprobs, offset))
                            : json::value();
      out["finish_reason"] = choice.finish_reason;
      out["stop_reason"] = choice.stop_reason;
      out["token_ids"] =
          request_.return_token_ids
              ? json::value(ids_json(choice.all.tokens, choice.all.num_prompt_tokens))
              : json::value();
      out["prompt_logprobs"] =
          choice.prompt_logprobs != nullptr
              ? json::value(prompt_logprobs_json(style_, *choice.prompt_logprobs))
              : json::value();
      out["prompt_token_ids"] =
          request_.return_token_ids ? json::value(ids_json(choice.prompt->tokens)) : json::value();
      list.push_back(std::move(out));
    }
    reply["choices"] = std::move(list);
    reply["service_tier"] = nullptr;
    reply["system_fingerprint"] = head_.fingerprint;
    reply["usage"] = std::move(usage);
    reply["kv_transfer_params"] = nullptr;
    reply["timings"] = std::move(timings);
    return to_json_text(reply);
  }

 protected:
  const char* chunk_object() const override { return "text_completion"; }

 private:
  void append_choice(std::string& out, json::object choice, const json::object* usage,
                     const json::object* timings) {
    json::object chunk = new_chunk();
    chunk["choices"] = json::array{std::move(choice)};
    if (usage != nullptr) chunk["usage"] = *usage;
    if (timings != nullptr) chunk["timings"] = *timings;
    append_event(out, chunk);
  }

  std::map<int, size_t> offsets_;  // characters of tokens sent so far, by choice
  std::map<int, bool> opened_;
};

}  // namespace

std::unique_ptr<ReplyFormat> make_completion_reply(ReplyHead head, const CommonRequest& request,
                                                   const text::Tokenizer& tokenizer) {
  return std::make_unique<CompletionReply>(std::move(head), request, tokenizer);
}

}  // namespace donar::server
