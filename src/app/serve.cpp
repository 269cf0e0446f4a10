// donar serve: the port answers at once, the model loads behind it, and a signal drains it.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <thread>

#include "app/commands.h"
#include "app/default_model.h"
#include "app/environment.h"
#include "app/serving.h"
#include "app/session.h"
#include "app/signals.h"
#include "app/term/progress.h"
#include "base/clock.h"
#include "server/server.h"

namespace donar::app {
namespace {

std::string address_of(const server::ServerConfig& config, int port) {
  const std::string scheme = config.ssl_certfile.empty() ? "http" : "https";
  const bool any = config.host == "0.0.0.0" || config.host == "::";
  const bool is_v6 = config.host.find(':') != std::string::npos;
  const std::string host = any ? "127.0.0.1" : is_v6 ? "[" + config.host + "]" : config.host;
  return fmt::format("{}://{}:{}", scheme, host, port);
}

std::string where(const Session& session, const Options& options) {
  if (session.device.cuda) return session.device.description();
  return fmt::format("the CPU, {} threads", step_threads(options));
}

server::ServedModel served(const Session& session, const Options& options) {
  const engine::EngineGauges gauges = session.engine->gauges();
  server::ServedModel model;
  model.tokenizer = session.text.tokenizer;
  model.chat_template = session.text.chat_template;
  model.engine = session.engine.get();
  model.generation_config = session.generation_config;
  model.root = session.model;
  model.precision = session.precision;
  model.num_blocks = gauges.num_blocks;
  model.kv_dtype = dtype_name(session.kv_dtype);
  model.prefix_caching = options.engine.prefix_caching;
  return model;
}

// The load on its own thread, so that signals end it and /health answers meanwhile.
class Loader {
 public:
  Loader(const Options& options, Memory& memory, server::Server& server, SignalWaiter& news)
      : thread_([this, &options, &memory, &server, &news] {
          term::Progress progress(isatty(STDERR_FILENO) != 0);
          SessionCallbacks callbacks;
          callbacks.stats = server.stats_listener();
          callbacks.on_progress = [&](const server::LoadProgress& now) {
            if (cancelled_.load(std::memory_order_relaxed)) throw LoadCancelled();
            progress.update(now);
            server.set_loading(now);
          };
          try {
            session_ = open_session(options, memory, callbacks);
          } catch (const LoadCancelled&) {
            session_ = fail(ErrorCode::kCancelled, "stopped while loading");
          } catch (const std::exception& error) {
            session_ = fail(ErrorCode::kInternal, "{}", error.what());
          }
          news.notify();
        }) {}
  ~Loader() {
    cancel();
    join();
  }

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  Result<Session>& result() { return *session_; }  // after join

 private:
  std::atomic<bool> cancelled_{false};
  std::optional<Result<Session>> session_;
  std::thread thread_;  // last: the others exist before it runs
};

Result<int> load_and_serve(const Options& options, Memory& memory, server::Server& server,
                           SignalWaiter& signals, TimePoint begin) {
  Loader loader(options, memory, server, signals);
  const bool stopped = signals.wait() == SignalWaiter::Wake::kSignal;
  if (stopped) {
    fmt::print(stderr, "Stopping while the model loads.\n");
    loader.cancel();
  }
  loader.join();
  Result<Session>& session = loader.result();
  if (stopped) {
    server.stop();
    return 0;
  }
  if (!session) return forward_error(session);
  if constexpr (kCuda) {  // what the other thread allocated is given back by this one
    if (session->device.cuda) use_cuda_device(session->device.cuda->ordinal);
  }

  report_memory(server, memory);
  server.set_startup_seconds("open", session->open_seconds);
  server.set_startup_seconds("weights", session->weights_seconds);
  server.set_startup_seconds("engine", session->engine_seconds);
  server.set_startup_seconds("total", seconds_since(begin));
  server.set_model(served(*session, options));
  fmt::print(stderr, "{} ({}) on {}, context {} tokens, {} KV; memory: {}\n", session->model,
             session->precision, where(*session, options), session->engine->max_model_len(),
             dtype_name(session->kv_dtype), memory.summary());
  if (session->text.chat_template == nullptr)
    fmt::print(stderr,
               "The model has no chat template: completions work, chat needs --chat-template.\n");
  fmt::print("Ready in {:.1f} s: {}\n", seconds_since(begin),
             address_of(options.server, server.port()));
  std::fflush(stdout);

  Result<int> code =
      serve_until_stopped(*session->engine, server, memory, signals, options.shutdown_timeout);
  session->engine.reset();
  return code;
}

}  // namespace

Result<int> serve(const Options& given) {
  SignalWaiter signals({SIGINT, SIGTERM});
  const TimePoint begin = Clock::now();
  Options options = given;
  if (options.server.api_keys.empty()) options.server.api_keys = api_keys_from(environment());
  if (options.server.ssl_certfile.empty() != options.server.ssl_keyfile.empty())
    return fail(ErrorCode::kInvalidArgument, "--ssl-certfile and --ssl-keyfile go together");
  if (options.server.model_names.empty())
    options.server.model_names = {options.model.empty() ? kDefaultModelName : options.model};

  Memory memory;
  Result<int> code = 0;
  {
    server::Server server(options.server);
    if (Result<void> started = server.start(); !started) return forward_error(started);
    fmt::print(stderr, "Listening on {}, loading {}.\n", address_of(options.server, server.port()),
               options.server.model_names.front());
    code = load_and_serve(options, memory, server, signals, begin);
  }
  if (code) fmt::print(stderr, "Stopped; {} of memory still held.\n", format_bytes(memory.total()));
  return code;
}

}  // namespace donar::app
