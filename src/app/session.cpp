// See session.h. The device opens on a thread of its own while files and tokenizer are read.
#include "app/session.h"

#include <algorithm>
#include <future>

#include "app/default_model.h"
#include "app/environment.h"
#include "base/clock.h"
#include "base/log.h"
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

// float32 is computed on the CPU alone, so auto does not look further then.
std::string wanted_device(const Options& options) {
  return options.device == "auto" && options.load.dtype == DType::kF32 ? "cpu" : options.device;
}

// The device as the calling thread's, with a ledger of its own.
Result<void> take_device(const Options& options, Device device, Session& session, Memory& memory) {
  session.device = std::move(device);
  if (session.device.is_fault)
    log_warn("{}", session.device.note);
  else if (!session.device.note.empty())
    log_info("{}", session.device.note);
  if constexpr (kCuda) {
    if (!session.device.cuda) return {};
    use_cuda_device(session.device.cuda->ordinal);
    session.device.limit = cuda_memory_limit(*session.device.cuda, options.engine);
    memory.cuda = std::make_unique<MemoryLedger>(session.device.limit.bytes, MemorySpace::kCuda);
  }
  return {};
}

engine::CudaTarget cuda_target(const Session& session, Memory& memory) {
  if (!session.device.cuda) return {};
  return {&*session.device.cuda, session.device.limit, &memory.host};
}

Result<model::Weights> load_on_cpu(MemoryLedger& ledger, const model::ModelFiles& files,
                                   const model::LoadOptions& load, int threads) {
  ThreadPool pool(threads);
  Result<Buffer> scratch = Buffer::allocate(ledger, MemoryUse::kStaging, kLoadScratchBytes);
  if (!scratch) return forward_error(scratch);
  Arena arena(std::move(*scratch));
  Exec ex;
  ex.isa = detect_cpu_isa();
  ex.pool = &pool;
  ex.arena = &arena;
  return model::load_weights(ex, ledger, files, load);
}

// Looks first whether all of it fits, so that nobody waits for weights that are of no use.
[[maybe_unused]] Result<model::Weights> load_on_cuda(const Options& options, const Session& session,
                                                     Memory& memory, const model::ModelFiles& files,
                                                     const model::LoadOptions& load) {
  const Result<DType> dtype = model::cuda_dtype(files, load);
  if (!dtype) return tl::unexpected<Error>(dtype.error());
  const CudaStream stream = CudaStream::create(*session.device.cuda);
  Exec ex;
  ex.device = DeviceType::kCuda;
  ex.cuda = &stream.exec();
  ex.activation = *dtype;
  const Result<model::Weights> planned = model::plan_weights(ex, files, load);
  if (!planned) return tl::unexpected<Error>(planned.error());
  Result<void> fits = engine::Engine::check_fits(*memory.cuda, session.config, *planned,
                                                 options.engine, cuda_target(session, memory));
  if (!fits) return forward_error(fits);
  return model::load_weights(ex, *memory.cuda, files, load, &memory.host);
}

Result<model::Weights> load_weights(const Options& options, const Session& session, Memory& memory,
                                    const model::ModelFiles& files, int threads,
                                    const SessionCallbacks& callbacks) {
  model::LoadOptions load = options.load;
  const TimePoint begin = Clock::now();
  load.on_progress = [&](uint64_t done, uint64_t total) {
    if (callbacks.on_progress)
      callbacks.on_progress({"weights", done, total, seconds_since(begin)});
  };
  if constexpr (kCuda) {
    if (session.device.cuda) return load_on_cuda(options, session, memory, files, load);
  }
  return load_on_cpu(memory.host, files, load, threads);
}

// On CUDA keys and values have the 16-bit type of the weights.
DType cache_dtype(const model::Weights& weights) {
  return weights.embedding.format == quant::Format::kF16 ? DType::kF16 : DType::kBF16;
}

// What is read before any weight: names, config, index, tokenizer, template.
Result<model::ModelFiles> open_files(const Options& options, Session& session) {
  Result<std::filesystem::path> path = find_files(options, session.model);
  if (!path) return forward_error(path);
  session.path = std::move(*path);
  Result<model::ModelFiles> files = model::open_model(session.path);
  if (!files) return files;
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
  return files;
}

Result<Session> open(const Options& options, Memory& memory, const SessionCallbacks& callbacks) {
  Session session;
  const TimePoint begin = Clock::now();
  std::future<Result<Device>> opening = std::async(
      std::launch::async, [wanted = wanted_device(options)] { return open_device(wanted); });
  Result<model::ModelFiles> files = open_files(options, session);
  if (!files) return forward_error(files);
  Result<Device> device = opening.get();
  if (!device) return forward_error(device);
  if (Result<void> taken = take_device(options, std::move(*device), session, memory); !taken)
    return forward_error(taken);
  session.open_seconds = seconds_since(begin);

  const int threads = step_threads(options);
  const TimePoint weights_begin = Clock::now();
  Result<model::Weights> weights =
      load_weights(options, session, memory, *files, threads, callbacks);
  if (!weights) return forward_error(weights);
  session.weights_seconds = seconds_since(weights_begin);
  session.weight_bytes = weights->bytes;
  session.embedding_bytes = rows_only_bytes(session.config, *weights);

  const TimePoint engine_begin = Clock::now();
  if (callbacks.on_progress) callbacks.on_progress({"warm-up", 0, 0, 0.0});
  session.kv_dtype =
      session.device.cuda ? cache_dtype(*weights) : options.engine.kv_dtype.value_or(DType::kBF16);
  Result<std::unique_ptr<engine::Engine>> engine = engine::Engine::create(
      memory.of_model(), session.config, std::move(*weights), options.engine, threads,
      session.text.tokenizer->vocab_size(), callbacks.stats, cuda_target(session, memory));
  if (!engine) return forward_error(engine);
  session.engine = std::move(*engine);
  session.engine_seconds = seconds_since(engine_begin);
  return session;
}

}  // namespace

int step_threads(const Options& options) {
  return options.threads > 0 ? options.threads : available_cpus();
}

Result<Session> open_session(const Options& options, Memory& memory,
                             const SessionCallbacks& callbacks) {
  try {
    return open(options, memory, callbacks);
  } catch (const CudaError& error) {
    return fail(ErrorCode::kInternal, "the CUDA device failed while the model was loaded: {}",
                error.what());
  }
}

}  // namespace donar::app
