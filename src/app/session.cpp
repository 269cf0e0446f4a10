#include "app/session.h"

#include <algorithm>

#include "app/default_model.h"
#include "app/environment.h"
#include "base/clock.h"
#include "base/thread_pool.h"

namespace donar::app {
namespace {

// Scratch of the repack kernels while weights load; a step has its own, sized by the engine.
constexpr uint64_t kLoadScratchBytes = uint64_t{16} << 20;

// A tied head reads the whole table for every token; else the table only gives one row.
uint64_t rows_only_bytes(const model::ModelConfig& config, const model::Weights& weights) {
  const quant::LinearWeight& table = weights.embedding;
  return config.tied_head
             ? 0
             : static_cast<uint64_t>(table.n * quant::row_bytes(table.format, table.k));
}

Result<std::filesystem::path> find_files(const Options& options, std::string& name) {
  const hub::CacheLocation cache = model_cache(options);
  if (options.model.empty()) {
    name = kDefaultModelName;
    return find_default_model(executable_path(), cache);
  }
  name = options.model;
  const bool needs_weights = options.load.load_format != model::LoadFormat::kDummy;
  return hub::resolve_model(options.model, options.revision, cache, needs_weights);
}

Result<model::Weights> load_weights(const Options& options, MemoryLedger& ledger,
                                    const model::ModelFiles& files, int threads,
                                    const SessionCallbacks& callbacks) {
  Result<Buffer> scratch = Buffer::allocate(ledger, MemoryUse::kStaging, kLoadScratchBytes);
  if (!scratch) return forward_error(scratch);
  Arena arena(std::move(*scratch));
  ThreadPool pool(threads);
  Exec ex{DeviceType::kCpu, detect_cpu_isa(), &pool, &arena};
  model::LoadOptions load = options.load;
  const TimePoint begin = Clock::now();
  load.on_progress = [&](uint64_t done, uint64_t total) {
    if (callbacks.on_progress)
      callbacks.on_progress({"weights", done, total, seconds_since(begin)});
  };
  return model::load_weights(ex, ledger, files, load);
}

}  // namespace

int step_threads(const Options& options) {
  return options.threads > 0 ? options.threads : available_cpus();
}

Result<Session> open_session(const Options& options, MemoryLedger& ledger,
                             const SessionCallbacks& callbacks) {
  Session session;
  const TimePoint begin = Clock::now();
  Result<std::filesystem::path> path = find_files(options, session.model);
  if (!path) return forward_error(path);
  session.path = std::move(*path);

  Result<model::ModelFiles> files = model::open_model(session.path);
  if (!files) return forward_error(files);
  Result<ModelText> text = load_text(options, *files);
  if (!text) return forward_error(text);
  session.text = std::move(*text);
  Result<json::object> generation_config =
      load_generation_config(options.generation_config, *files);
  if (!generation_config) return forward_error(generation_config);
  session.generation_config = std::move(*generation_config);
  session.precision = files->precision;
  session.config = files->config;
  for (const int32_t id : session.text.end_tokens)
    if (std::find(session.config.eos_tokens.begin(), session.config.eos_tokens.end(), id) ==
        session.config.eos_tokens.end())
      session.config.eos_tokens.push_back(id);
  session.open_seconds = seconds_since(begin);

  const int threads = step_threads(options);
  const TimePoint weights_begin = Clock::now();
  Result<model::Weights> weights = load_weights(options, ledger, *files, threads, callbacks);
  if (!weights) return forward_error(weights);
  session.weights_seconds = seconds_since(weights_begin);
  session.weight_bytes = weights->bytes;
  session.embedding_bytes = rows_only_bytes(session.config, *weights);

  const TimePoint engine_begin = Clock::now();
  if (callbacks.on_progress) callbacks.on_progress({"warm-up", 0, 0, 0.0});
  Result<std::unique_ptr<engine::Engine>> engine =
      engine::Engine::create(ledger, session.config, std::move(*weights), options.engine, threads,
                             session.text.tokenizer->vocab_size(), callbacks.stats);
  if (!engine) return forward_error(engine);
  session.engine = std::move(*engine);
  session.engine_seconds = seconds_since(engine_begin);
  return session;
}

}  // namespace donar::app
