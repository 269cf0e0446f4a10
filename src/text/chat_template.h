// A model's chat template: messages to prompt text, with the ranges that came from the user. Const
// after construction, thread-safe.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace donar::text {

struct ChatInput {
  json::array messages;   // as the request has them; strings in here are untrusted text
  json::array tools;      // OpenAI tool objects; empty: none
  json::array documents;  // empty: none
  json::object kwargs;    // chat_template_kwargs: override the special tokens' names
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // ends inside the last message; no generation prompt then
  // Messages as OpenAI's clients send them: arguments of tool calls are JSON text and become
  // objects, an assistant without content has "". false: messages are taken as Transformers takes
  // them.
  bool openai_messages = true;
};

struct RenderedPrompt {
  std::string text;
  std::vector<ByteRange> untrusted;  // sorted, disjoint: where characters came from messages,
                                     // tools, documents or kwargs
};

class ChatTemplate {
 public:
  using SpecialTokens = std::map<std::string, std::string>;  // "bos_token" -> "<s>"

  // kDataLoss with line and column for a template that does not parse.
  static Result<ChatTemplate> parse(std::string source, SpecialTokens special_tokens);
  // The template of a model directory by the precedence of formats/chat.md section 1; kNotFound if
  // there is none. Named templates: "tool_use" is used when a request has tools, "default"
  // otherwise.
  static Result<ChatTemplate> from_directory(const std::filesystem::path& directory,
                                             SpecialTokens special_tokens);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // kInvalidArgument for raise_exception, for a template error on these messages and for a limit
  // (steps, depth, output size).
  Result<RenderedPrompt> render(const ChatInput& input) const;

  bool uses_tools() const;  // the template reads the variable `tools`
  const std::string& source() const;

  // For tests: a fixed clock for strftime_now (seconds since the epoch, local time zone offset 0).
  void set_clock(std::function<std::tm()> now);

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace donar::text
