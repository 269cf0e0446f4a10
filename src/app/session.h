// A model brought to life for one command: name -> files -> tokenizer, weights, engine, with
// progress and one error.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "app/device.h"
#include "app/load_text.h"
#include "app/options.h"
#include "engine/engine.h"
#include "hub/resolve.h"

namespace donar::app {

struct Session {
  std::string model;  // as given, or the default model's name
  std::filesystem::path path;
  ModelText text;
  json::object generation_config;
  std::string precision;
  Device device;
  model::ModelConfig config;
  DType kv_dtype = DType::kBF16;
  uint64_t weight_bytes = 0;     // packed
  uint64_t embedding_bytes = 0;  // of them read one row per token; 0 if the head shares the table
  double open_seconds = 0.0;     // config, index, tokenizer, template
  double weights_seconds = 0.0;
  double engine_seconds = 0.0;  // KV cache, workspace
  std::unique_ptr<engine::Engine> engine;
};

struct SessionCallbacks {
  std::function<void(const server::LoadProgress&)> on_progress;  // may throw LoadCancelled
  engine::StatsListener* stats = nullptr;
};

// Thrown by on_progress to end a load that nobody waits for any more.
struct LoadCancelled {};

// `memory` outlives the session, and gets the ledger of the device if that is one of CUDA.
Result<Session> open_session(const Options& options, Memory& memory,
                             const SessionCallbacks& callbacks);

// Threads of a step: --threads, else what the process may use.
int step_threads(const Options& options);

}  // namespace donar::app
