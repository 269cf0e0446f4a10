// The way of a request that generates: gate, parse and tokenize on a worker, back to the
// connection's thread, to the engine.
#pragma once

#include <functional>
#include <memory>

#include "server/generation.h"
#include "server/server_state.h"

namespace donar::server {

// Runs `prepare` (parse, render, encode) on a worker and starts what it returns; its error becomes
// the answer.
using PrepareJob = std::function<Result<GenerationJob>(
    ServerState& state, std::shared_ptr<const ServedModel> model, const Request&)>;
void generate(ServerState& state, std::shared_ptr<Exchange> exchange, PrepareJob prepare);

// Runs `work` on a worker and answers with what it returns.
using Work = std::function<Result<Response>(
    ServerState& state, std::shared_ptr<const ServedModel> model, const Request&)>;
void answer_on_worker(ServerState& state, std::shared_ptr<Exchange> exchange, Work work);

// The body as JSON; vLLM's rule that it must be declared as such keeps other sites' pages from
// posting to a local server.
Result<json::value> parse_body(const Request& request, size_t max_bytes);

RequestLimits request_limits(const ServerState& state, const ServedModel& model);
ReplyHead reply_head(const char* prefix, const CommonRequest& common, const Request& request,
                     std::string model);

}  // namespace donar::server
