// From a parsed request to token ids: template, tokenizer, truncation, and what may be generated.
// Runs on a worker thread.
#pragma once

#include <string>
#include <vector>

#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/server.h"

namespace donar::server {

struct Prompt {
  std::vector<int32_t> tokens;
  std::string text;  // for echo
};

// Renders the messages of a chat and encodes them. `content_format` as in ServerConfig.
Result<Prompt> make_chat_prompt(const ChatRequest& request, const ServedModel& model,
                                const std::string& content_format, WarnOnce& warnings);

Result<std::vector<Prompt>> make_completion_prompts(const CompletionRequest& request,
                                                    const ServedModel& model);

// Tokens to generate: what was asked for, or what fits; a prompt that is too long is refused with
// vLLM's message.
Result<int> fit_max_tokens(const CommonRequest& request, size_t prompt_tokens,
                           int64_t max_model_len, const char* param);

// The sampling parameters with bad_words as token ids, with and without a space before them (as
// vLLM does it).
engine::SamplingParams with_bad_words(const CommonRequest& request,
                                      const text::Tokenizer& tokenizer);

// A key for the engine's prefix cache; 0 for no salt. Collisions would share entries across
// tenants, hence SHA-256.
uint64_t hash_cache_salt(const std::string& salt);

}  // namespace donar::server
