// How the server is: /health, /ping, /version, /load, /metrics, /reset_prefix_cache, and
// /donar/info for the page.
//
// GET /donar/info answers 200 at any time:
//   status            "loading", "ready", "draining" or "failed"
//   model, version    the served name; Donar's version
//   loading           null, or {phase, done_bytes, total_bytes, progress (0..1), seconds}
//   precision, max_model_len, kv_usage (0..1), running, waiting, num_blocks, free_blocks,
//   generation_config (the model's own sampling defaults), chat (whether there is a chat template):
//   null while loading
#include "server/error_reply.h"
#include "server/json_text.h"
#include "server/routes.h"

namespace donar::server {
namespace {

void respond_json(Exchange& exchange, const json::object& body, int status = 200) {
  Response response;
  response.status = status;
  response.body = to_json_text(body);
  if (status == 503) response.headers.push_back({"Retry-After", "1"});
  response.headers.push_back({"Cache-Control", "no-store"});
  exchange.respond(std::move(response));
}

json::object loading_json(const LoadProgress& progress) {
  json::object out;
  out["phase"] = progress.phase;
  out["done_bytes"] = progress.done_bytes;
  out["total_bytes"] = progress.total_bytes;
  out["progress"] = progress.total_bytes == 0 ? 0.0
                                              : static_cast<double>(progress.done_bytes) /
                                                    static_cast<double>(progress.total_bytes);
  out["seconds"] = progress.seconds;
  return out;
}

const char* status_of(const ServerState& state, const ServedModel* model) {
  if (state.draining) return "draining";
  if (model == nullptr) return "loading";
  return model->engine->healthy() ? "ready" : "failed";
}

}  // namespace

void handle_health(ServerState& state, std::shared_ptr<Exchange> exchange) {
  const auto model = state.model();
  const std::string status = status_of(state, model.get());
  json::object body;
  body["status"] = status == "ready" ? "ok" : status;
  if (status == "loading")
    for (const auto& member : loading_json(state.progress())) body[member.key()] = member.value();
  respond_json(*exchange, body, status == "ready" ? 200 : 503);
}

void handle_ping(ServerState& state, std::shared_ptr<Exchange> exchange) {
  handle_health(state, std::move(exchange));
}

void handle_version(ServerState&, std::shared_ptr<Exchange> exchange) {
  json::object body;
  body["version"] = DONAR_VERSION;
  respond_json(*exchange, body);
}

void handle_load(ServerState& state, std::shared_ptr<Exchange> exchange) {
  json::object body;
  body["server_load"] = state.num_active.load();
  respond_json(*exchange, body);
}

void handle_info(ServerState& state, std::shared_ptr<Exchange> exchange) {
  const auto model = state.model();
  json::object body;
  body["status"] = status_of(state, model.get());
  body["model"] = state.config.model_names.empty() ? json::value()
                                                   : json::value(state.config.model_names.front());
  body["version"] = DONAR_VERSION;
  body["loading"] = model == nullptr && !state.draining
                        ? json::value(loading_json(state.progress()))
                        : json::value();
  for (const char* name : {"precision", "max_model_len", "kv_usage", "running", "waiting",
                           "num_blocks", "free_blocks", "generation_config", "chat"})
    body[name] = nullptr;
  if (model != nullptr) {
    const engine::EngineGauges gauges = model->engine->gauges();
    body["precision"] = model->precision;
    body["max_model_len"] = model->engine->max_model_len();
    body["kv_usage"] = gauges.kv_usage;
    body["running"] = gauges.running;
    body["waiting"] = gauges.waiting;
    body["num_blocks"] = gauges.num_blocks;
    body["free_blocks"] = gauges.free_blocks;
    body["generation_config"] = model->generation_config;
    body["chat"] = model->chat_template != nullptr;
  }
  respond_json(*exchange, body);
}

void handle_metrics(ServerState& state, std::shared_ptr<Exchange> exchange) {
  if (!state.config.metrics)
    return exchange->respond(error_response(404, "metrics are off (--disable-log-stats)"));
  const auto model = state.model();
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body =
      state.metrics.text(model == nullptr ? engine::EngineGauges{} : model->engine->gauges());
  exchange->respond(std::move(response));
}

void handle_reset_prefix_cache(ServerState& state, std::shared_ptr<Exchange> exchange) {
  auto model = state.ready_model();
  if (!model) return exchange->respond(error_response(model.error()));
  (*model)->engine->reset_prefix_cache();
  respond_json(*exchange, {});
}

}  // namespace donar::server
