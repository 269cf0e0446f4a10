// A server whose model is ready, until a signal or a failure of the engine ends it.
#pragma once

#include <chrono>

#include "app/device.h"
#include "app/signals.h"
#include "engine/engine.h"
#include "server/server.h"

namespace donar::app {

// What the ledgers hold now, as metrics.
void report_memory(server::Server& server, const Memory& memory);

// Returns with the server stopped and nothing running. 0 after a signal: running requests may
// finish for `timeout`, another signal ends them at once. The error of an engine that failed, whose
// open streams have got it already.
Result<int> serve_until_stopped(engine::Engine& engine, server::Server& server,
                                const Memory& memory, SignalWaiter& signals,
                                std::chrono::seconds timeout);

}  // namespace donar::app
