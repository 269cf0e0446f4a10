#include "server/routes/prepare.h"

#include <ctime>
#include <exception>

#include "base/log.h"
#include "server/error_reply.h"

namespace donar::server {
namespace {

// An exception that leaves a route's work is our failure, never the end of the process.
template <class T>
Result<T> guarded(const Request& request, const std::function<Result<T>()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    log_error("{} {}: {}", request.method, request.path, error.what());
    return fail(ErrorCode::kInternal, "internal error: see the server's log");
  }
}

}  // namespace

void generate(ServerState& state, std::shared_ptr<Exchange> exchange, PrepareJob prepare) {
  auto model = state.ready_model();
  if (!model) return exchange->respond(error_response(model.error()));
  exchange->run_in_worker(
      [&state, exchange, model = std::move(*model), prepare = std::move(prepare)] {
        // Shared, since functions that are posted must be copyable.
        auto job = std::make_shared<Result<GenerationJob>>(guarded<GenerationJob>(
            exchange->request(), [&] { return prepare(state, model, exchange->request()); }));
        exchange->post([&state, exchange, job] {
          if (exchange->closed()) return;
          if (!*job) return exchange->respond(error_response(job->error()));
          std::make_shared<Generation>(exchange, std::move(**job), state.num_active)->start();
        });
      });
}

void answer_on_worker(ServerState& state, std::shared_ptr<Exchange> exchange, Work work) {
  auto model = state.ready_model();
  if (!model) return exchange->respond(error_response(model.error()));
  exchange->run_in_worker([&state, exchange, model = std::move(*model), work = std::move(work)] {
    auto response = std::make_shared<Result<Response>>(guarded<Response>(
        exchange->request(), [&] { return work(state, model, exchange->request()); }));
    exchange->post([exchange, response] {
      exchange->respond(*response ? std::move(**response) : error_response(response->error()));
    });
  });
}

Result<json::value> parse_body(const Request& request, size_t max_bytes) {
  const std::string* type = request.header("content-type");
  std::string_view media = type == nullptr ? std::string_view{} : std::string_view(*type);
  media = media.substr(0, media.find(';'));
  while (!media.empty() && media.back() == ' ') media.remove_suffix(1);
  if (!equals_ignoring_case(media, "application/json"))
    return fail(
        ErrorCode::kInvalidArgument,
        "Unsupported Media Type: only 'application/json' is allowed (set the header Content-Type)");
  JsonLimits limits;
  limits.max_bytes = max_bytes;
  return parse_json(request.body, limits);
}

RequestLimits request_limits(const ServerState& state, const ServedModel& model) {
  RequestLimits limits;
  limits.max_logprobs = state.config.max_logprobs;
  limits.vocab_size = model.tokenizer->vocab_size();
  limits.generation_config = &model.generation_config;
  return limits;
}

ReplyHead reply_head(const char* prefix, const CommonRequest& common, const Request& request,
                     std::string model) {
  ReplyHead head;
  head.id = prefix + (common.request_id.empty() ? request.request_id : common.request_id);
  head.created = std::time(nullptr);
  head.model = std::move(model);
  head.fingerprint = "donar-" DONAR_VERSION;
  return head;
}

}  // namespace donar::server
