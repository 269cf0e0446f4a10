// Answers to /v1/chat/completions, and what both kinds of answers share.
#include "server/json_text.h"
#include "server/reply_format.h"

namespace donar::server {

void ReplyFormat::append_event(std::string& out, const json::object& object) {
  out += "data: ";
  append_json_text(out, object);
  out += "\n\n";
}

json::object ReplyFormat::new_chunk() const {
  json::object chunk;
  chunk["id"] = head_.id;
  chunk["object"] = chunk_object();
  chunk["created"] = head_.created;
  chunk["model"] = head_.model;
  chunk["system_fingerprint"] = head_.fingerprint;
  return chunk;
}

json::array ReplyFormat::ids_json(const std::vector<int32_t>& tokens, size_t skip) {
  json::array out;
  for (size_t i = skip; i < tokens.size(); ++i) out.push_back(tokens[i]);
  return out;
}

namespace {

class ChatReply final : public ReplyFormat {
 public:
  using ReplyFormat::ReplyFormat;

  void append_opening(std::string& out, int index, const Prompt& prompt,
                      const json::object* usage) override {
    json::object delta{{"role", "assistant"}, {"content", ""}};
    append_choice(out, index, std::move(delta), nullptr, nullptr, usage, nullptr,
                  request_.return_token_ids ? &prompt : nullptr);
    if (request_.echo && !prompt.text.empty())
      append_choice(out, index, json::object{{"content", prompt.text}}, nullptr, nullptr, usage,
                    nullptr, nullptr);
  }

  void append_delta(std::string& out, int index, const ChoiceDelta& delta, const Prompt&,
                    const json::object* usage) override {
    append_choice(out, index, json::object{{"content", delta.text}}, &delta, nullptr, usage,
                  nullptr, nullptr);
  }

  void append_finish(std::string& out, int index, const char* reason,
                     const json::value& stop_reason, const json::object* usage,
                     const json::object* timings) override {
    const Finish finish{reason, stop_reason};
    append_choice(out, index, json::object{}, nullptr, &finish, usage, timings, nullptr);
  }

  std::string whole(const std::vector<ChoiceResult>& choices, json::object usage,
                    json::object timings) override {
    json::object reply;
    reply["id"] = head_.id;
    reply["object"] = "chat.completion";
    reply["created"] = head_.created;
    reply["model"] = head_.model;
    json::array list;
    for (const ChoiceResult& choice : choices) {
      json::object message;
      message["role"] = "assistant";
      message["content"] = (request_.echo ? choice.prompt->text : std::string()) + choice.all.text;
      message["refusal"] = nullptr;
      message["annotations"] = nullptr;
      message["audio"] = nullptr;
      message["function_call"] = nullptr;
      message["tool_calls"] = json::array{};
      message["reasoning"] = nullptr;
      message["reasoning_content"] = nullptr;
      json::object out;
      out["index"] = static_cast<int64_t>(list.size());
      out["message"] = std::move(message);
      out["logprobs"] = wants_logprobs() ? json::value(chat_logprobs(style_, choice.all.logprobs))
                                         : json::value();
      out["finish_reason"] = choice.finish_reason;
      out["stop_reason"] = choice.stop_reason;
      out["token_ids"] =
          request_.return_token_ids ? json::value(ids_json(choice.all.tokens)) : json::value();
      list.push_back(std::move(out));
    }
    const ChoiceResult& first = choices.front();
    reply["choices"] = std::move(list);
    reply["service_tier"] = nullptr;
    reply["system_fingerprint"] = head_.fingerprint;
    reply["usage"] = std::move(usage);
    reply["prompt_logprobs"] =
        first.prompt_logprobs != nullptr
            ? json::value(prompt_logprobs_json(style_, *first.prompt_logprobs))
            : json::value();
    reply["prompt_token_ids"] =
        request_.return_token_ids ? json::value(ids_json(first.prompt->tokens)) : json::value();
    reply["kv_transfer_params"] = nullptr;
    reply["timings"] = std::move(timings);
    return to_json_text(reply);
  }

 protected:
  const char* chunk_object() const override { return "chat.completion.chunk"; }

 private:
  struct Finish {
    const char* reason;
    const json::value& stop_reason;
  };

  void append_choice(std::string& out, int index, json::object delta, const ChoiceDelta* tokens,
                     const Finish* finish, const json::object* usage, const json::object* timings,
                     const Prompt* prompt) {
    json::object chunk = new_chunk();
    json::object choice;
    choice["index"] = index;
    choice["delta"] = std::move(delta);
    choice["logprobs"] = wants_logprobs() && tokens != nullptr && !tokens->logprobs.empty()
                             ? json::value(chat_logprobs(style_, tokens->logprobs))
                             : json::value();
    choice["finish_reason"] = finish != nullptr ? json::value(finish->reason) : json::value();
    if (finish != nullptr) choice["stop_reason"] = finish->stop_reason;
    if (request_.return_token_ids && tokens != nullptr)
      choice["token_ids"] = ids_json(tokens->tokens);
    chunk["choices"] = json::array{std::move(choice)};
    if (prompt != nullptr) chunk["prompt_token_ids"] = ids_json(prompt->tokens);
    if (usage != nullptr) chunk["usage"] = *usage;
    if (timings != nullptr) chunk["timings"] = *timings;
    append_event(out, chunk);
  }
};

}  // namespace

std::unique_ptr<ReplyFormat> make_chat_reply(ReplyHead head, const CommonRequest& request,
                                             const text::Tokenizer& tokenizer) {
  return std::make_unique<ChatReply>(std::move(head), request, tokenizer);
}

}  // namespace donar::server
