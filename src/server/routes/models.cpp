// GET /v1/models and /v1/models/{id}. They answer while the model loads: user interfaces block on
// this list.
#include <algorithm>

#include "server/error_reply.h"
#include "server/json_text.h"
#include "server/routes.h"

namespace donar::server {
namespace {

json::object model_card(const ServerState& state, const std::string& id) {
  const auto model = state.model();
  json::object permission;
  permission["id"] = "modelperm-" + id;
  permission["object"] = "model_permission";
  permission["created"] = state.started_unix;
  permission["allow_create_engine"] = false;
  permission["allow_sampling"] = true;
  permission["allow_logprobs"] = true;
  permission["allow_search_indices"] = false;
  permission["allow_view"] = true;
  permission["allow_fine_tuning"] = false;
  permission["organization"] = "*";
  permission["group"] = nullptr;
  permission["is_blocking"] = false;
  json::object card;
  card["id"] = id;
  card["object"] = "model";
  card["created"] = state.started_unix;
  card["owned_by"] = "donar";
  card["root"] = model == nullptr || model->root.empty() ? id : model->root;
  card["parent"] = nullptr;
  card["max_model_len"] =
      model == nullptr ? json::value() : json::value(model->engine->max_model_len());
  card["permission"] = json::array{std::move(permission)};
  return card;
}

}  // namespace

void handle_models(ServerState& state, std::shared_ptr<Exchange> exchange) {
  json::array data;
  for (const std::string& name : state.config.model_names) data.push_back(model_card(state, name));
  json::object list;
  list["object"] = "list";
  list["data"] = std::move(data);
  Response response;
  response.body = to_json_text(list);
  exchange->respond(std::move(response));
}

void handle_model(ServerState& state, std::shared_ptr<Exchange> exchange) {
  const std::string id = exchange->request().path.substr(std::string_view("/v1/models/").size());
  const auto name = state.served_name(id);
  if (!name) return exchange->respond(error_response(name.error()));
  Response response;
  response.body = to_json_text(model_card(state, id));
  exchange->respond(std::move(response));
}

}  // namespace donar::server
