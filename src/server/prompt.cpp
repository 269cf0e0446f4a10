// Templates, tokens and limits of a request.
#include "server/prompt.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "server/message_content.h"

namespace donar::server {
namespace {

// Keeps the last tokens, as vLLM does. True if something was cut.
Result<bool> truncate(const CommonRequest& request, int64_t max_model_len,
                      std::vector<int32_t>& tokens) {
  if (!request.truncate_prompt_tokens) return false;
  int64_t keep = *request.truncate_prompt_tokens;
  if (keep == -1) keep = std::max<int64_t>(1, max_model_len - request.max_tokens.value_or(1));
  if (keep > max_model_len) {
    return tl::unexpected<Error>(Error{
        ErrorCode::kInvalidArgument,
        fmt::format("truncate_prompt_tokens value ({}) is greater than max_model_len ({}). Please, "
                    "select a smaller truncation size.",
                    keep, max_model_len),
        "truncate_prompt_tokens"});
  }
  if (static_cast<int64_t>(tokens.size()) <= keep) return false;
  tokens.erase(tokens.begin(), tokens.end() - keep);
  return true;
}

Error empty_prompt(const char* param) {
  return Error{ErrorCode::kInvalidArgument, "The prompt cannot be empty: it has no tokens", param};
}

}  // namespace

Result<Prompt> make_chat_prompt(const ChatRequest& request, const ServedModel& model,
                                const std::string& content_format, WarnOnce& warnings) {
  if (model.chat_template == nullptr)
    return fail(
        ErrorCode::kInvalidArgument,
        "this model has no chat template: start the server with --chat-template FILE, or use "
        "/v1/completions");
  const text::ChatTemplate& chat_template = *model.chat_template;
  ContentFormat format = detect_content_format(chat_template.source());
  if (content_format == "string") format = ContentFormat::kString;
  if (content_format == "openai") format = ContentFormat::kOpenAi;
  const bool knows_developer = chat_template.source().find("developer") != std::string::npos;

  text::ChatInput input;
  auto messages = normalize_messages(request.messages, format, knows_developer);
  if (!messages) return forward_error(messages);
  input.messages = std::move(*messages);
  if (!request.tools.empty()) {
    if (chat_template.uses_tools()) {
      input.tools = request.tools;
    } else {
      warnings.warn("tools without template",
                    "this model's chat template takes no tools: they are left out of the prompt");
    }
  }
  input.documents = request.documents;
  input.kwargs = request.kwargs;
  input.add_generation_prompt = request.add_generation_prompt;
  input.continue_final_message = request.continue_final_message;
  auto rendered = chat_template.render(input);
  if (!rendered) {
    Error error = std::move(rendered.error());
    if (error.param.empty()) error.param = "messages";
    return tl::unexpected<Error>(std::move(error));
  }

  Prompt prompt;
  text::EncodeOptions options;
  options.add_special_tokens = request.common.add_special_tokens;
  options.untrusted = rendered->untrusted;
  prompt.tokens = model.tokenizer->encode(rendered->text, options);
  auto cut = truncate(request.common, model.engine->max_model_len(), prompt.tokens);
  if (!cut) return forward_error(cut);
  if (prompt.tokens.empty()) return tl::unexpected<Error>(empty_prompt("messages"));
  // Echo of a chat repeats what the final message already holds.
  if (request.common.echo && !input.messages.empty()) {
    const json::object& last = input.messages.back().get_object();
    const json::value* content = last.if_contains("content");
    const bool same_role =
        last.at("role").get_string() == "assistant" || !request.add_generation_prompt;
    if (same_role && content != nullptr && content->is_string())
      prompt.text = std::string(content->get_string());
  }
  return prompt;
}

Result<std::vector<Prompt>> make_completion_prompts(const CompletionRequest& request,
                                                    const ServedModel& model) {
  std::vector<Prompt> prompts;
  for (const PromptInput& input : request.prompts) {
    Prompt prompt;
    if (const auto* text = std::get_if<std::string>(&input)) {
      text::EncodeOptions options;
      options.add_special_tokens = request.common.add_special_tokens;
      prompt.tokens = model.tokenizer->encode(*text, options);
      prompt.text = *text;
    } else {
      prompt.tokens = std::get<std::vector<int32_t>>(input);
    }
    auto cut = truncate(request.common, model.engine->max_model_len(), prompt.tokens);
    if (!cut) return forward_error(cut);
    if (prompt.tokens.empty()) return tl::unexpected<Error>(empty_prompt("prompt"));
    if (request.common.echo && (*cut || !std::holds_alternative<std::string>(input)))
      prompt.text = model.tokenizer->decode(prompt.tokens, /*skip_special_tokens=*/false);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Result<int> fit_max_tokens(const CommonRequest& request, size_t prompt_tokens,
                           int64_t max_model_len, const char* param) {
  const auto input = static_cast<int64_t>(prompt_tokens);
  const bool nothing_wanted = request.max_tokens && *request.max_tokens == 0;
  if (input > max_model_len || (input == max_model_len && !nothing_wanted)) {
    return tl::unexpected<Error>(
        Error{ErrorCode::kInvalidArgument,
              fmt::format(
                  "This model's maximum context length is {} tokens. However, your request has {} "
                  "input tokens. Please reduce the length of the input messages.",
                  max_model_len, input),
              param});
  }
  int64_t max_tokens = max_model_len - input;
  if (request.max_tokens) {
    if (*request.max_tokens > max_tokens) {
      return tl::unexpected<Error>(Error{
          ErrorCode::kInvalidArgument,
          fmt::format(
              "'max_tokens' or 'max_completion_tokens' is too large: {}. This model's maximum "
              "context length is {} tokens and your request has {} input tokens ({} > {} - {}).",
              *request.max_tokens, max_model_len, input, *request.max_tokens, max_model_len, input),
          "max_tokens"});
    }
    max_tokens = *request.max_tokens;
  }
  if (request.max_tokens_cap) max_tokens = std::min(max_tokens, *request.max_tokens_cap);
  if (request.sampling.min_tokens > max_tokens) {
    return tl::unexpected<Error>(
        Error{ErrorCode::kInvalidArgument,
              fmt::format("min_tokens must be less than or equal to max_tokens={}, got {}.",
                          max_tokens, request.sampling.min_tokens),
              "min_tokens"});
  }
  return static_cast<int>(std::min<int64_t>(max_tokens, INT32_MAX));
}

engine::SamplingParams with_bad_words(const CommonRequest& request,
                                      const text::Tokenizer& tokenizer) {
  engine::SamplingParams sampling = request.sampling;
  text::EncodeOptions options;
  options.parse_special = false;
  for (const std::string& word : request.bad_words) {
    const std::string bare = word.substr(word.find_first_not_of(' '));
    std::vector<int32_t> plain = tokenizer.encode(bare, options);
    std::vector<int32_t> spaced = tokenizer.encode(" " + bare, options);
    if (plain.empty()) continue;
    const bool other =
        !spaced.empty() && spaced.front() != plain.front() && spaced.size() == plain.size();
    sampling.bad_words.push_back(std::move(plain));
    if (other) sampling.bad_words.push_back(std::move(spaced));
  }
  return sampling;
}

uint64_t hash_cache_salt(const std::string& salt) {
  if (salt.empty()) return 0;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(salt.data(), salt.size(), digest, &size, EVP_sha256(), nullptr);
  uint64_t key = 0;
  std::memcpy(&key, digest, sizeof(key));
  return key == 0 ? 1 : key;
}

}  // namespace donar::server
