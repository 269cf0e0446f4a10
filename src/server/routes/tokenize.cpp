// POST /tokenize (a prompt, or messages through the chat template) and /detokenize.
#include "server/error_reply.h"
#include "server/json_text.h"
#include "server/logprobs_json.h"
#include "server/routes.h"
#include "server/routes/prepare.h"

namespace donar::server {
namespace {

Result<std::vector<int32_t>> tokens_of(FieldReader& fields, ServerState& state,
                                       const ServedModel& model) {
  std::vector<int32_t> tokens;
  if (fields.find("messages") != nullptr) {
    ChatRequest chat;
    read_chat_prompt_fields(fields, chat);
    if (fields.error()) return tl::unexpected<Error>(*fields.error());
    auto prompt =
        make_chat_prompt(chat, model, state.config.chat_template_content_format, state.warnings);
    if (!prompt) return forward_error(prompt);
    return std::move(prompt->tokens);
  }
  const auto prompt = fields.string("prompt");
  text::EncodeOptions options;
  options.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  if (!prompt) fields.fail("prompt", "prompt or messages is required");
  if (fields.error()) return tl::unexpected<Error>(*fields.error());
  return model.tokenizer->encode(*prompt, options);
}

Result<Response> tokenize(ServerState& state, std::shared_ptr<const ServedModel> model,
                          const Request& http) {
  auto body = parse_body(http, state.config.max_body_bytes);
  if (!body) return forward_error(body);
  if (!body->is_object())
    return fail(ErrorCode::kInvalidArgument, "the request body must be a JSON object");
  FieldReader fields(body->get_object());
  auto name = state.served_name(fields.string("model"));
  if (!name) return forward_error(name);
  const bool token_strings = fields.boolean("return_token_strs").value_or(false);
  auto tokens = tokens_of(fields, state, *model);
  if (!tokens) return forward_error(tokens);
  warn_unknown_fields(fields, state.warnings);

  json::object reply;
  reply["count"] = static_cast<int64_t>(tokens->size());
  reply["max_model_len"] = model->engine->max_model_len();
  json::array ids, strings;
  for (const int32_t id : *tokens) ids.push_back(id);
  reply["tokens"] = std::move(ids);
  if (token_strings)
    for (const int32_t id : *tokens)
      strings.push_back(json::value(model->tokenizer->token_string(id)));
  reply["token_strs"] = token_strings ? json::value(std::move(strings)) : json::value();
  Response response;
  response.body = to_json_text(reply);
  return response;
}

Result<Response> detokenize(ServerState& state, std::shared_ptr<const ServedModel> model,
                            const Request& http) {
  auto body = parse_body(http, state.config.max_body_bytes);
  if (!body) return forward_error(body);
  if (!body->is_object())
    return fail(ErrorCode::kInvalidArgument, "the request body must be a JSON object");
  FieldReader fields(body->get_object());
  auto name = state.served_name(fields.string("model"));
  if (!name) return forward_error(name);
  const auto tokens = fields.token_ids("tokens");
  if (!tokens) fields.fail("tokens", "tokens is required: a list of token ids");
  if (tokens)
    for (const int32_t id : *tokens)
      if (id >= model->tokenizer->vocab_size())
        fields.fail("tokens", fmt::format("Token id {} is out of vocabulary", id));
  if (fields.error()) return tl::unexpected<Error>(*fields.error());
  warn_unknown_fields(fields, state.warnings);
  json::object reply;
  reply["prompt"] = model->tokenizer->decode(*tokens, /*skip_special_tokens=*/false);
  Response response;
  response.body = to_json_text(reply);
  return response;
}

}  // namespace

void handle_tokenize(ServerState& state, std::shared_ptr<Exchange> exchange) {
  answer_on_worker(state, std::move(exchange), tokenize);
}

void handle_detokenize(ServerState& state, std::shared_ptr<Exchange> exchange) {
  answer_on_worker(state, std::move(exchange), detokenize);
}

}  // namespace donar::server
