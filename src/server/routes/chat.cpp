// POST /v1/chat/completions
#include "server/routes.h"
#include "server/routes/prepare.h"

namespace donar::server {
namespace {

Result<GenerationJob> prepare_chat(ServerState& state, std::shared_ptr<const ServedModel> model,
                                   const Request& http) {
  auto body = parse_body(http, state.config.max_body_bytes);
  if (!body) return forward_error(body);
  auto request = parse_chat_request(*body, request_limits(state, *model), state.warnings);
  if (!request) return forward_error(request);
  auto name = state.served_name(request->common.model);
  if (!name) return forward_error(name);
  auto prompt =
      make_chat_prompt(*request, *model, state.config.chat_template_content_format, state.warnings);
  if (!prompt) return forward_error(prompt);
  auto max_tokens = fit_max_tokens(request->common, prompt->tokens.size(),
                                   model->engine->max_model_len(), "messages");
  if (!max_tokens) return forward_error(max_tokens);

  GenerationJob job;
  job.chat = true;
  job.sampling = with_bad_words(request->common, *model->tokenizer);
  job.prompts.push_back(std::move(*prompt));
  job.max_tokens = {*max_tokens};
  job.head = reply_head("chatcmpl-", request->common, http, std::move(*name));
  job.request = std::move(request->common);
  job.keepalive_comment = state.config.keepalive_comment;
  job.force_include_usage = state.config.force_include_usage;
  job.model = std::move(model);
  return job;
}

}  // namespace

void handle_chat_completions(ServerState& state, std::shared_ptr<Exchange> exchange) {
  generate(state, std::move(exchange), prepare_chat);
}

}  // namespace donar::server
