// POST /v1/completions
#include "server/routes.h"
#include "server/routes/prepare.h"

namespace donar::server {
namespace {

Result<GenerationJob> prepare_completion(ServerState& state,
                                         std::shared_ptr<const ServedModel> model,
                                         const Request& http) {
  auto body = parse_body(http, state.config.max_body_bytes);
  if (!body) return forward_error(body);
  auto request = parse_completion_request(*body, request_limits(state, *model), state.warnings);
  if (!request) return forward_error(request);
  auto name = state.served_name(request->common.model);
  if (!name) return forward_error(name);
  auto prompts = make_completion_prompts(*request, *model);
  if (!prompts) return forward_error(prompts);

  GenerationJob job;
  for (const Prompt& prompt : *prompts) {
    auto max_tokens = fit_max_tokens(request->common, prompt.tokens.size(),
                                     model->engine->max_model_len(), "prompt");
    if (!max_tokens) return forward_error(max_tokens);
    job.max_tokens.push_back(*max_tokens);
  }
  job.sampling = with_bad_words(request->common, *model->tokenizer);
  job.prompts = std::move(*prompts);
  job.head = reply_head("cmpl-", request->common, http, std::move(*name));
  job.request = std::move(request->common);
  job.keepalive_comment = state.config.keepalive_comment;
  job.force_include_usage = state.config.force_include_usage;
  job.model = std::move(model);
  return job;
}

}  // namespace

void handle_completions(ServerState& state, std::shared_ptr<Exchange> exchange) {
  generate(state, std::move(exchange), prepare_completion);
}

}  // namespace donar::server
