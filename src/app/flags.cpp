#include "app/flags.h"

#include <algorithm>

#include "app/values.h"
#include "base/thread_pool.h"

namespace donar::app {
namespace {

using V = const FlagValue&;

template <class Field, class Parsed>
Result<void> store(Field& field, Result<Parsed> parsed) {
  if (!parsed) return forward_error(parsed);
  field = static_cast<Field>(*parsed);
  return {};
}

Result<void> store_text(std::string& field, V value) {
  if (value.text.empty()) return fail(ErrorCode::kInvalidArgument, "the value is empty");
  field = value.text;
  return {};
}

Result<void> accept(Options&, V) { return {}; }

Result<void> one_of(V value, std::initializer_list<std::string_view> known) {
  std::string list;
  for (const std::string_view word : known) {
    if (value.text == word) return {};
    list += (list.empty() ? "" : ", ") + std::string(word);
  }
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not one of {}", value.text, list);
}

Result<void> store_sampling(Options& options, const char* name, float& field, V value, double low,
                            double high) {
  options.chat.set.push_back(name);
  return store(field, parse_number(value.text, low, high));
}

Result<void> kv_cache_dtype(Options& options, V value) {
  if (value.text.starts_with("fp8") || value.text.starts_with("int8"))
    return fail(ErrorCode::kUnsupported,
                "{} is not supported yet; use auto, bfloat16, float16 or float32", value.text);
  Result<std::optional<DType>> dtype = parse_dtype(value.text);
  if (!dtype) return forward_error(dtype);
  options.engine.kv_dtype = *dtype;
  return {};
}

Result<void> device(Options& options, V value) {
  options.device = value.text;
  if (value.text.starts_with("cuda:"))
    return parse_integer(value.text.substr(5), 0, 1023).map([](int64_t) {});
  return one_of(value, {"auto", "cpu", "cuda", "cuda:0"});
}

Result<void> load_format(Options& options, V value) {
  if (value.text == "dummy") {
    options.load.load_format = model::LoadFormat::kDummy;
    return {};
  }
  // The container is told by the files themselves.
  return one_of(value, {"auto", "safetensors", "gguf", "dummy"});
}

Result<void> log_level(Options& options, V value) {
  constexpr std::pair<std::string_view, LogLevel> kLevels[] = {
      {"trace", LogLevel::kDebug},    {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo},
      {"warning", LogLevel::kWarn},   {"warn", LogLevel::kWarn},   {"error", LogLevel::kError},
      {"critical", LogLevel::kError}, {"off", LogLevel::kOff}};
  for (const auto& [name, level] : kLevels)
    if (value.text == name) return store(options.log_level, Result<LogLevel>(level));
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not one of debug, info, warning, error, off",
              value.text);
}

constexpr auto kSwitch = FlagKind::kSwitch;
constexpr auto kValue = FlagKind::kValue;
constexpr auto kList = FlagKind::kList;
constexpr auto kHonoured = FlagStatus::kHonoured;
constexpr auto kUnsupported = FlagStatus::kUnsupported;
constexpr auto kIgnored = FlagStatus::kIgnored;

// clang-format off
constexpr Flag kFlags[] = {
  // Model
  {"--model", "", kValue, kHonoured, kAllCommands, "Model", "MODEL", "directory, .gguf file, or repository id in the Hugging Face cache", "",
   [](Options& o, V v) { return store_text(o.model, v); }},
  {"--revision", "", kValue, kHonoured, kAllCommands, "Model", "NAME", "branch, tag or commit of a repository id (main)", "",
   [](Options& o, V v) { return store_text(o.revision, v); }},
  {"--download-dir", "", kValue, kHonoured, kAllCommands, "Model", "DIR", "cache root to look in, instead of HF_HUB_CACHE", "",
   [](Options& o, V v) { return store_text(o.download_dir, v); }},
  {"--tokenizer", "", kValue, kHonoured, kAllCommands, "Model", "DIR", "directory with another tokenizer.json", "",
   [](Options& o, V v) { return store_text(o.tokenizer, v); }},
  {"--dtype", "", kValue, kHonoured, kAllCommands, "Model", "TYPE", "auto (as stored), bfloat16, float16, float32; quantized weights stay as they are", "",
   [](Options& o, V v) { return store(o.load.dtype, parse_dtype(v.text)); }},
  {"--load-format", "", kValue, kHonoured, kAllCommands, "Model", "FORMAT", "auto, or dummy: seeded random weights of the config's shape", "", load_format},
  {"--generation-config", "", kValue, kHonoured, kServe | kRun, "Model", "WHERE", "sampling defaults: auto (the model's), vllm (none), or a path", "",
   [](Options& o, V v) { return store_text(o.generation_config, v); }},
  {"--chat-template", "", kValue, kHonoured, kServe | kRun, "Model", "JINJA", "path of a chat template, or the template itself", "",
   [](Options& o, V v) { return store_text(o.chat_template, v); }},

  // Server
  {"--host", "", kValue, kHonoured, kServe, "Server", "ADDRESS", "address to listen on (127.0.0.1)", "",
   [](Options& o, V v) { return store_text(o.server.host, v); }},
  {"--port", "", kValue, kHonoured, kServe, "Server", "PORT", "port to listen on (8000); 0: any free one", "",
   [](Options& o, V v) { return store(o.server.port, parse_integer(v.text, 0, 65535)); }},
  {"--served-model-name", "", kList, kHonoured, kServe, "Server", "NAME...", "names of the model; the first is echoed in replies", "",
   [](Options& o, V v) { return store(o.server.model_names, parse_list(v.values)); }},
  {"--api-key", "", kList, kHonoured, kServe, "Server", "KEY...", "keys that clients must send; also DONAR_API_KEY, VLLM_API_KEY", "",
   [](Options& o, V v) -> Result<void> {
     if (std::any_of(v.values.begin(), v.values.end(), [](const std::string& key) { return key.empty(); }))
       return fail(ErrorCode::kInvalidArgument, "an empty key would let everybody in; leave the flag out instead");
     return store(o.server.api_keys, parse_list(v.values)); }},
  {"--allowed-origins", "", kList, kHonoured, kServe, "Server", "ORIGIN...", "web origins that may call from a browser (none)", "",
   [](Options& o, V v) { return store(o.server.allowed_origins, parse_list(v.values)); }},
  {"--allowed-hosts", "", kList, kHonoured, kServe, "Server", "HOST...", "on a loopback address: names that the Host header may carry beside localhost; *: any", "",
   [](Options& o, V v) { return store(o.server.allowed_hosts, parse_list(v.values)); }},
  {"--ssl-certfile", "", kValue, kHonoured, kServe, "Server", "FILE", "serve HTTPS with this certificate chain (PEM)", "",
   [](Options& o, V v) { return store_text(o.server.ssl_certfile, v); }},
  {"--ssl-keyfile", "", kValue, kHonoured, kServe, "Server", "FILE", "private key of the certificate (PEM)", "",
   [](Options& o, V v) { return store_text(o.server.ssl_keyfile, v); }},
  {"--chat-template-content-format", "", kValue, kHonoured, kServe, "Server", "FORMAT", "auto, string or openai: how message parts reach the template", "",
   [](Options& o, V v) { o.server.chat_template_content_format = v.text; return one_of(v, {"auto", "string", "openai"}); }},
  {"--max-logprobs", "", kValue, kHonoured, kServe, "Server", "N", "most logprobs that a request may ask for (20)", "",
   [](Options& o, V v) { return store(o.server.max_logprobs, parse_integer(v.text, 0, 20)); }},
  {"--enable-request-id-headers", "", kSwitch, kHonoured, kServe, "Server", "", "echo X-Request-Id (on)", "",
   [](Options& o, V v) { o.server.enable_request_id_headers = v.on; return Result<void>(); }},
  {"--enable-force-include-usage", "", kSwitch, kHonoured, kServe, "Server", "", "a usage chunk in every stream", "",
   [](Options& o, V v) { o.server.force_include_usage = v.on; return Result<void>(); }},
  {"--enable-prompt-tokens-details", "", kSwitch, kHonoured, kServe, "Server", "", "cached_tokens in usage: always on", "", accept},
  {"--enable-log-requests", "", kSwitch, kHonoured, kServe, "Server", "", "a log line per request", "",
   [](Options& o, V v) { o.server.log_requests = v.on; return Result<void>(); }},
  {"--disable-log-requests", "", kSwitch, kHonoured, kServe, "Server", "", "no log line per request (the default)", "",
   [](Options& o, V v) { o.server.log_requests = !v.on; return Result<void>(); }},
  {"--disable-log-stats", "", kSwitch, kHonoured, kServe, "Server", "", "no metrics", "",
   [](Options& o, V v) { o.server.metrics = !v.on; return Result<void>(); }},
  {"--shutdown-timeout", "", kValue, kHonoured, kServe, "Server", "SECONDS", "how long running requests may finish after SIGTERM (10)", "",
   [](Options& o, V v) -> Result<void> {
     Result<int64_t> seconds = parse_integer(v.text, 0, 86400);
     if (!seconds) return forward_error(seconds);
     o.shutdown_timeout = std::chrono::seconds(*seconds);
     return {}; }},
  {"--io-threads", "", kValue, kHonoured, kServe, "Server", "N", "threads that parse, tokenize and write (2)", "",
   [](Options& o, V v) { return store(o.server.io_threads, parse_integer(v.text, 1, 64)); }},
  {"--log-level", "", kValue, kHonoured, kAllCommands, "Server", "LEVEL", "debug, info, warning, error or off (serve: info, else warning)", "", log_level},
  {"--uvicorn-log-level", "", kValue, kHonoured, kServe, "Server", "LEVEL", "the same as --log-level", "", log_level},

  // Engine
  {"--device", "", kValue, kHonoured, kAllCommands, "Engine", "DEVICE", "auto (the first GPU that this program has code for, else the CPU), cpu, cuda or cuda:N", "", device},
  {"--threads", "", kValue, kHonoured, kAllCommands, "Engine", "N", "CPU threads of a step (all that the process may use)", "",
   [](Options& o, V v) { return store(o.threads, parse_integer(v.text, 1, ThreadPool::kMostThreads)); }},
  {"--max-model-len", "", kValue, kHonoured, kAllCommands, "Engine", "TOKENS", "longest prompt plus answer: 4096, 32k, 32K, auto", "",
   [](Options& o, V v) -> Result<void> {
     if (v.text == "auto" || v.text == "-1") { o.engine.max_model_len = 0; return {}; }
     Result<int64_t> size = parse_human_size(v.text);
     if (size && *size == 0) return fail(ErrorCode::kInvalidArgument, "0 tokens fit nothing; leave the flag out for the model's own limit");
     return store(o.engine.max_model_len, std::move(size)); }},
  {"--max-num-seqs", "", kValue, kHonoured, kServe, "Engine", "N", "sequences in one step (32; 256 on a GPU)", "",
   [](Options& o, V v) { return store(o.engine.max_num_seqs, parse_integer(v.text, 1, 65536)); }},
  {"--max-num-batched-tokens", "", kValue, kHonoured, kAllCommands, "Engine", "TOKENS", "token budget of one step (256; 2048 on a GPU)", "",
   [](Options& o, V v) -> Result<void> {
     Result<int64_t> size = parse_human_size(v.text);
     if (size && (*size < 1 || *size > 1 << 20)) return fail(ErrorCode::kInvalidArgument, "{} is not from 1 to 1,048,576", v.text);
     return store(o.engine.max_num_batched_tokens, std::move(size)); }},
  {"--max-waiting", "", kValue, kHonoured, kServe, "Engine", "N", "requests that may wait before new ones get 429 (1024)", "",
   [](Options& o, V v) { return store(o.engine.max_waiting, parse_integer(v.text, 1, 1 << 20)); }},
  {"--kv-cache-memory-bytes", "", kValue, kHonoured, kAllCommands, "Engine", "BYTES", "size of the KV cache: 512m, 2G (25 % of available memory; on a GPU: what the rest leaves)", "",
   [](Options& o, V v) { return store(o.engine.kv_cache_bytes, parse_human_size(v.text)); }},
  {"--kv-cache-dtype", "", kValue, kHonoured, kAllCommands, "Engine", "TYPE", "auto (bfloat16; on a GPU: as the weights, the only one there), bfloat16, float16, float32", "", kv_cache_dtype},
  {"--enable-prefix-caching", "", kSwitch, kHonoured, kServe | kRun, "Engine", "", "reuse the KV of equal prompt beginnings (on)", "",
   [](Options& o, V v) { o.engine.prefix_caching = v.on; return Result<void>(); }},
  {"--enable-chunked-prefill", "", kSwitch, kHonoured, kServe, "Engine", "", "split long prompts over steps (on)", "",
   [](Options& o, V v) { o.engine.chunked_prefill = v.on; return Result<void>(); }},
  {"--seed", "", kValue, kHonoured, kAllCommands, "Engine", "N", "seed of the seeds of requests that bring none (0)", "",
   [](Options& o, V v) { return store(o.engine.seed, parse_integer(v.text, 0)); }},

  // On a CUDA device; a warning where the CPU is the device
  {"--gpu-memory-utilization", "", kValue, kHonoured, kAllCommands, kGpuGroup, "X", "share of the device's memory for weights, KV cache and all else, others' use counted (0.9)", "",
   [](Options& o, V v) { return store(o.engine.gpu_memory_utilization, parse_number(v.text, 0.01, 1.0)); }},
  {"--enforce-eager", "", kSwitch, kHonoured, kAllCommands, kGpuGroup, "", "no CUDA graphs: every kernel of a step is launched by itself", "",
   [](Options& o, V v) { o.engine.enforce_eager = v.on; return Result<void>(); }},
  {"--batch-invariant", "", kSwitch, kHonoured, kAllCommands, kGpuGroup, "", "the same bits whatever else is in a step, also beyond 64 rows; slower", "",
   [](Options& o, V v) { o.engine.batch_invariant = v.on; return Result<void>(); }},

  // donar run
  {"--system", "", kValue, kHonoured, kRun, "Chat", "TEXT", "system prompt", "",
   [](Options& o, V v) { o.chat.system = v.text; return Result<void>(); }},
  {"--prompt", "-p", kValue, kHonoured, kRun, "Chat", "TEXT", "answer this and exit", "",
   [](Options& o, V v) { return store_text(o.chat.prompt, v); }},
  {"--max-tokens", "", kValue, kHonoured, kRun, "Chat", "N", "longest answer (what fits)", "",
   [](Options& o, V v) { return store(o.chat.max_tokens, parse_integer(v.text, 1, 1 << 30)); }},
  {"--temperature", "", kValue, kHonoured, kRun, "Chat", "X", "0: greedy", "",
   [](Options& o, V v) { return store_sampling(o, "temperature", o.chat.sampling.temperature, v, 0.0, 100.0); }},
  {"--top-p", "", kValue, kHonoured, kRun, "Chat", "X", "nucleus", "",
   [](Options& o, V v) { return store_sampling(o, "top_p", o.chat.sampling.top_p, v, 1e-6, 1.0); }},
  {"--top-k", "", kValue, kHonoured, kRun, "Chat", "N", "0: off", "",
   [](Options& o, V v) { o.chat.set.push_back("top_k"); return store(o.chat.sampling.top_k, parse_integer(v.text, 0, 1 << 30)); }},

  // donar bench
  {"--input-len", "", kValue, kHonoured, kBench, "Bench", "N", "prompt tokens of one sequence (512)", "",
   [](Options& o, V v) { return store(o.bench.input_len, parse_integer(v.text, 1, 1 << 24)); }},
  {"--output-len", "", kValue, kHonoured, kBench, "Bench", "N", "tokens that one sequence generates (128)", "",
   [](Options& o, V v) { return store(o.bench.output_len, parse_integer(v.text, 2, 1 << 24)); }},
  {"--context", "", kValue, kHonoured, kBench, "Bench", "N", "prompt tokens ahead of the timed decode (--input-len)", "",
   [](Options& o, V v) { return store(o.bench.context, parse_integer(v.text, 1, 1 << 24)); }},
  {"--batch-size", "", kValue, kHonoured, kBench, "Bench", "N", "sequences at a time (1)", "",
   [](Options& o, V v) { return store(o.bench.batch_size, parse_integer(v.text, 1, 4096)); }},
  {"--repeat", "", kValue, kHonoured, kBench, "Bench", "N", "runs, of which the median counts (3)", "",
   [](Options& o, V v) { return store(o.bench.repeat, parse_integer(v.text, 1, 1000)); }},
  {"--json", "", kSwitch, kHonoured, kBench, "Bench", "", "print the JSON line only", "",
   [](Options& o, V v) { o.bench.json_only = v.on; return Result<void>(); }},

  // vLLM's, honoured as far as there is only one choice here
  {"--block-size", "", kValue, kUnsupported, kServe, "vLLM", "TOKENS", "KV blocks have 16 tokens", "16"},
  {"--tensor-parallel-size", "-tp", kValue, kUnsupported, kServe, "vLLM", "N", "one device for now", "1"},
  {"--pipeline-parallel-size", "-pp", kValue, kUnsupported, kServe, "vLLM", "N", "one device for now", "1"},
  {"--data-parallel-size", "-dp", kValue, kUnsupported, kServe, "vLLM", "N", "start one server per replica", "1"},
  {"--scheduling-policy", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "requests run first come, first served", "fcfs"},
  {"--stream-interval", "", kValue, kUnsupported, kServe, "vLLM", "N", "every token is streamed", "1"},
  {"--max-num-partial-prefills", "", kValue, kUnsupported, kServe, "vLLM", "N", "", "1"},
  {"--max-long-partial-prefills", "", kValue, kUnsupported, kServe, "vLLM", "N", "", "1"},
  {"--long-prefill-token-threshold", "", kValue, kUnsupported, kServe, "vLLM", "N", "", "0"},
  {"--quantization", "-q", kValue, kUnsupported, kAllCommands, "vLLM", "NAME", "the format is read from the checkpoint; leave the flag out", "gguf"},
  {"--runner", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "text generation only", "generate"},
  {"--task", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "text generation only", "generate"},
  {"--tokenizer-mode", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "", "auto"},
  {"--uds", "", kValue, kUnsupported, kServe, "vLLM", "PATH", "use --host and --port"},
  {"--tokenizer-revision", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "give --tokenizer a directory"},
  {"--cpu-offload-gb", "", kValue, kUnsupported, kServe, "vLLM", "GIB", "weights lie whole in the device's memory", "0"},
  {"--kv-offloading-size", "", kValue, kUnsupported, kServe, "vLLM", "GIB", ""},
  {"--kv-offloading-backend", "", kValue, kUnsupported, kServe, "vLLM", "NAME", ""},
  {"--kv-transfer-config", "", kValue, kUnsupported, kServe, "vLLM", "JSON", ""},
  {"--speculative-config", "-sc", kValue, kUnsupported, kServe, "vLLM", "JSON", "speculative decoding comes later"},
  {"--speculative-model", "", kValue, kUnsupported, kServe, "vLLM", "MODEL", "speculative decoding comes later"},
  {"--num-speculative-tokens", "", kValue, kUnsupported, kServe, "vLLM", "N", "speculative decoding comes later"},
  {"--hf-overrides", "", kValue, kUnsupported, kServe, "vLLM", "JSON", "edit config.json"},
  {"--rope-scaling", "", kValue, kUnsupported, kServe, "vLLM", "JSON", "edit config.json"},
  {"--rope-theta", "", kValue, kUnsupported, kServe, "vLLM", "X", "edit config.json"},
  {"--override-generation-config", "", kValue, kUnsupported, kServe, "vLLM", "JSON", "give --generation-config a file"},
  {"--default-chat-template-kwargs", "", kValue, kUnsupported, kServe, "vLLM", "JSON", "send chat_template_kwargs with the request"},
  {"--trust-request-chat-template", "", kSwitch, kUnsupported, kServe, "vLLM", "", "use --chat-template"},
  {"--enable-auto-tool-choice", "", kSwitch, kUnsupported, kServe, "vLLM", "", "tool calls stay in the text until tool parsers come"},
  {"--tool-call-parser", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "tool calls stay in the text until tool parsers come"},
  {"--tool-parser-plugin", "", kValue, kUnsupported, kServe, "vLLM", "PATH", "plugins are Python"},
  {"--reasoning-parser", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "reasoning stays in the text until parsers come"},
  {"--structured-outputs-config", "", kValue, kUnsupported, kServe, "vLLM", "JSON", "structured output comes later"},
  {"--guided-decoding-backend", "", kValue, kUnsupported, kServe, "vLLM", "NAME", "structured output comes later"},
  {"--enable-lora", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--lora-modules", "", kList, kUnsupported, kServe, "vLLM", "NAME=PATH...", ""},
  {"--max-loras", "", kValue, kUnsupported, kServe, "vLLM", "N", ""},
  {"--max-lora-rank", "", kValue, kUnsupported, kServe, "vLLM", "N", ""},
  {"--enable-sleep-mode", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--enable-log-outputs", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--enable-server-load-tracking", "", kSwitch, kUnsupported, kServe, "vLLM", "", "see vllm:num_requests_running at /metrics"},
  {"--enable-offline-docs", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--kv-cache-metrics", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--enable-mfu-metrics", "", kSwitch, kUnsupported, kServe, "vLLM", "", ""},
  {"--otlp-traces-endpoint", "", kValue, kUnsupported, kServe, "vLLM", "URL", ""},
  {"--collect-detailed-traces", "", kValue, kUnsupported, kServe, "vLLM", "LIST", ""},
  {"--root-path", "", kValue, kUnsupported, kServe, "vLLM", "PATH", "let the proxy strip the prefix"},
  {"--ssl-ca-certs", "", kValue, kUnsupported, kServe, "vLLM", "FILE", "client certificates are not asked for"},
  {"--ssl-cert-reqs", "", kValue, kUnsupported, kServe, "vLLM", "N", "client certificates are not asked for", "0"},
  {"--middleware", "", kList, kUnsupported, kServe, "vLLM", "NAME...", "middleware is Python"},
  {"--allow-credentials", "", kSwitch, kUnsupported, kServe, "vLLM", "", "browsers send no cookies to this server"},
  {"--limit-mm-per-prompt", "", kValue, kIgnored, kServe, "vLLM", "JSON", "the models are text only"},
  {"--mm-processor-kwargs", "", kValue, kIgnored, kServe, "vLLM", "JSON", "the models are text only"},
  {"--prefix-caching-hash-algo", "", kValue, kIgnored, kServe, "vLLM", "NAME", "a hit is confirmed by comparing tokens, so the hash does not matter"},
  {"--swap-space", "", kValue, kIgnored, kServe, "vLLM", "GIB", "preempted requests are recomputed, not swapped"},
  {"--compilation-config", "-O", kValue, kIgnored, kServe, "vLLM", "JSON", "nothing is compiled, and graphs are captured on their own; --enforce-eager: none"},
  {"--max-seq-len-to-capture", "", kValue, kIgnored, kServe, "vLLM", "N", "graphs of decode steps hold any length"},
  {"--cudagraph-capture-sizes", "", kList, kIgnored, kServe, "vLLM", "N...", "graphs are captured for all sizes up to --max-num-seqs, at most 256"},
  {"--max-cudagraph-capture-size", "", kValue, kIgnored, kServe, "vLLM", "N", "graphs are captured for all sizes up to --max-num-seqs"},
  {"--cuda-graph-sizes", "", kList, kIgnored, kServe, "vLLM", "N...", "graphs are captured for all sizes up to --max-num-seqs"},
  {"--async-scheduling", "", kSwitch, kIgnored, kServe, "vLLM", "", "it is always so on a GPU, and on the CPU there is nothing to overlap"},
  {"--trust-remote-code", "", kSwitch, kIgnored, kAllCommands, "vLLM", "", "no Python is run"},
  {"--hf-token", "", kValue, kIgnored, kServe, "vLLM", "TOKEN", "nothing is downloaded; `hf download` takes the token"},
  {"--disable-uvicorn-access-log", "", kSwitch, kIgnored, kServe, "vLLM", "", "there is no access log unless --enable-log-requests"},
  {"--disable-access-log-for-endpoints", "", kValue, kIgnored, kServe, "vLLM", "LIST", "there is no access log unless --enable-log-requests"},
  {"--disable-fastapi-docs", "", kSwitch, kIgnored, kServe, "vLLM", "", "there is no such page"},
  {"--show-hidden-metrics-for-version", "", kValue, kIgnored, kServe, "vLLM", "VERSION", "no metric is hidden"},
  {"--max-log-len", "", kValue, kIgnored, kServe, "vLLM", "N", "prompts are never logged"},
  {"--distributed-executor-backend", "", kValue, kIgnored, kServe, "vLLM", "NAME", "one process does it all"},
  {"--api-server-count", "", kValue, kIgnored, kServe, "vLLM", "N", "one process does it all; see --io-threads", "1"},
  {"--disable-frontend-multiprocessing", "", kSwitch, kIgnored, kServe, "vLLM", "", "one process does it all"},
  {"--disable-hybrid-kv-cache-manager", "", kSwitch, kIgnored, kServe, "vLLM", "", "there is one kind of KV block"},
};
// clang-format on

tl::unexpected<Error> named(const Flag& flag, Error error) {
  error.param = flag.name;
  error.message = fmt::format("{}: {}", flag.name, error.message);
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace

std::span<const Flag> all_flags() { return kFlags; }

const Flag* find_flag(std::string_view name) {
  for (const Flag& flag : kFlags)
    if (name == flag.name || (!flag.alias.empty() && name == flag.alias)) return &flag;
  return nullptr;
}

Result<void> apply_flag(const Flag& flag, const FlagValue& value, Options& options,
                        std::vector<std::string>& warnings) {
  if (flag.status == FlagStatus::kHonoured) {
    Result<void> applied = flag.apply(options, value);
    if (!applied) return named(flag, std::move(applied.error()));
    return {};
  }
  const bool neutral = flag.kind == FlagKind::kSwitch
                           ? !value.on
                           : !flag.neutral.empty() && value.text == flag.neutral;
  if (neutral) return {};
  if (flag.status == FlagStatus::kIgnored) {
    warnings.push_back(fmt::format("{} is ignored because {}", flag.name, flag.help));
    return {};
  }
  const std::string given =
      flag.kind == FlagKind::kValue && !flag.neutral.empty() ? " " + value.text : "";
  return tl::unexpected<Error>(Error{ErrorCode::kUnsupported,
                                     fmt::format("{}{} is not supported yet{}{}", flag.name, given,
                                                 flag.help.empty() ? "" : "; ", flag.help),
                                     std::string(flag.name)});
}

}  // namespace donar::app
