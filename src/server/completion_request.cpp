// The four forms of a prompt, and the fields that chats do not have.
#include "server/completion_request.h"

#include "server/chat_request.h"

namespace donar::server {
namespace {

constexpr size_t kMaxPrompts = 4096;
constexpr int64_t kDefaultMaxTokens = 16;

// A string, a list of strings, a list of ids, or a list of lists of ids.
void read_prompts(FieldReader& fields, const RequestLimits& limits, CompletionRequest& request) {
  const json::value* prompt = fields.find("prompt");
  if (prompt == nullptr) {
    fields.fail("prompt",
                "prompt is required: a string, a list of strings, token ids, or lists of them");
    return;
  }
  const auto add_ids = [&](const json::array& array) {
    auto ids = to_token_ids(array);
    if (!ids) return false;
    for (const int32_t id : *ids)
      if (limits.vocab_size > 0 && id >= limits.vocab_size)
        fields.fail("prompt", fmt::format("Token id {} is out of vocabulary", id));
    request.prompts.emplace_back(std::move(*ids));
    return true;
  };
  bool valid = true;
  if (prompt->is_string()) {
    request.prompts.emplace_back(std::string(prompt->get_string()));
  } else if (const json::array* list = prompt->if_array(); list != nullptr && !list->empty()) {
    if (list->front().is_number()) {
      valid = add_ids(*list);
    } else if (list->size() > kMaxPrompts) {
      fields.fail("prompt", fmt::format("at most {} prompts in a request, got {}", kMaxPrompts,
                                        list->size()));
    } else {
      for (const json::value& item : *list) {
        if (item.is_string()) {
          request.prompts.emplace_back(std::string(item.get_string()));
        } else {
          valid = valid && item.is_array() && add_ids(item.get_array());
        }
      }
    }
  } else {
    valid = false;
  }
  if (!valid)
    fields.fail(
        "prompt",
        "prompt must be a string, a list of strings, a list of token ids, or a list of such lists");
}

}  // namespace

Result<CompletionRequest> parse_completion_request(const json::value& body,
                                                   const RequestLimits& limits,
                                                   WarnOnce& warnings) {
  const json::object* object = body.if_object();
  if (object == nullptr)
    return fail(ErrorCode::kInvalidArgument, "the request body must be a JSON object");
  FieldReader fields(*object);
  CompletionRequest request;
  fields.refuse({"prompt_embeds"}, "send text or token ids");
  request.common = read_common_fields(fields, limits);
  CommonRequest& common = request.common;
  common.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  if (!fields.error()) read_prompts(fields, limits, request);

  common.max_tokens = fields.integer("max_tokens").value_or(kDefaultMaxTokens);
  if (*common.max_tokens < (common.echo ? 0 : 1))
    fields.fail("max_tokens", fmt::format("max_tokens must be at least {}, got {}.",
                                          common.echo ? 0 : 1, *common.max_tokens));
  const json::value* logprobs = fields.find("logprobs");
  if (logprobs != nullptr && !(logprobs->is_bool() && !logprobs->get_bool())) {
    if (const auto count = fields.integer("logprobs")) {
      check_logprob_count(fields, "logprobs", *count, limits);
      common.sampling.num_logprobs = static_cast<int>(*count);
      if (common.echo)
        common.sampling.num_prompt_logprobs =
            std::max(common.sampling.num_prompt_logprobs, common.sampling.num_logprobs);
    }
  }
  if (const auto best_of = fields.integer("best_of"); best_of && *best_of != common.n)
    fields.fail("best_of", "best_of is not supported: use n, which returns every choice");
  fields.refuse({"suffix"}, "this server completes at the end of the prompt only");
  if (fields.error()) return tl::unexpected<Error>(*fields.error());
  warn_unknown_fields(fields, warnings);
  return request;
}

}  // namespace donar::server
