// bench_serve: load on any server that speaks OpenAI's POST /v1/completions with streaming, and
// what came of it as a table and one JSON line per run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "serve/load.h"
#include "serve/records.h"

namespace donar::bench::serve {
namespace {

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string label, device, commit, extra = "{}";
  int num_requests = 1, warmup = 0, repeat = 1;
  bool json_only = false;
  LoadOptions load;
};

// The first line of `path` that begins with `key`, less the key and the colon after it.
std::string field_of(const std::filesystem::path& path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return {};
}

// The first GPU that the NVIDIA driver names, else the processor. Of this machine: the server is
// thought to run here too, and --device says otherwise.
std::string this_device() {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", none))
    if (std::string model = field_of(entry.path() / "information", "Model"); !model.empty())
      return model;
  return field_of("/proc/cpuinfo", "model name");
}

Result<std::string> first_model(const LoadOptions& load) {
  Result<std::string> text = http_get(load.endpoint, "/v1/models", load.api_key);
  if (!text) return text;
  Result<json::value> value = parse_json(*text);
  const json::value* id = nullptr;
  boost::system::error_code none;
  if (value) id = value->find_pointer("/data/0/id", none);
  if (id == nullptr || !id->is_string())
    return fail(ErrorCode::kUnavailable, "the server names no model at /v1/models; give --model");
  return std::string(id->get_string());
}

std::string server_version(const LoadOptions& load) {
  Result<std::string> text = http_get(load.endpoint, "/version", load.api_key);
  Result<json::value> value = text ? parse_json(*text) : json::value();
  const json::value* version = nullptr;
  boost::system::error_code none;
  if (value) version = value->find_pointer("/version", none);
  return version != nullptr && version->is_string() ? std::string(version->get_string())
                                                    : std::string();
}

double rounded(double value, double steps) { return std::round(value * steps) / steps; }

// Boost writes 598.8 as 5.988E2; people read these lines too.
std::string text_of(const json::value& value) {
  if (value.is_double()) return fmt::format("{}", value.get_double());
  if (!value.is_object()) return json::serialize(value);
  std::string out;
  for (const auto& [key, member] : value.get_object())
    out +=
        fmt::format("{}\"{}\":{}", out.empty() ? "" : ",", std::string_view(key), text_of(member));
  return "{" + out + "}";
}

json::value milliseconds(const std::optional<Spread>& s) {
  if (!s) return nullptr;
  const auto ms = [](double seconds) { return rounded(1e3 * seconds, 1000); };
  return json::object{{"mean", ms(s->mean)}, {"p50", ms(s->p50)}, {"p90", ms(s->p90)},
                      {"p95", ms(s->p95)},   {"p99", ms(s->p99)}, {"max", ms(s->max)}};
}

json::object json_line(const Options& options, const std::string& version, const Summary& s) {
  const LoadOptions& load = options.load;
  json::object out = {{"bench", "serve"},
                      {"label", options.label},
                      {"device", options.device},
                      {"commit", options.commit},
                      {"server_version", version},
                      {"model", load.model},
                      {"in_len", load.input_len},
                      {"out_len", load.output_len},
                      {"concurrency", load.concurrency},
                      {"request_rate", load.request_rate},
                      {"seed", load.seed},
                      {"requests", s.requests},
                      {"errors", s.errors}};
  if (s.errors > 0) out["first_error"] = s.first_error;
  if (s.errors == s.requests) return out;
  out["wall_s"] = rounded(s.wall_s, 1000);
  out["prompt_tokens"] = s.input_tokens;
  out["output_tokens"] = s.output_tokens;
  out["events"] = s.events;
  out["output_tok_s"] = rounded(s.output_tok_s, 10);
  out["prompt_tok_s"] = rounded(s.prompt_tok_s, 10);
  out["total_tok_s"] = rounded(s.output_tok_s + s.prompt_tok_s, 10);
  out["request_per_s"] = rounded(s.request_per_s, 1000);
  out["steady_tok_s"] =
      s.steady_tok_s ? json::value(rounded(*s.steady_tok_s, 10)) : json::value(nullptr);
  out["decode_tok_s"] = rounded(s.decode_tok_s, 100);
  out["prefill_tok_s"] = rounded(s.prefill_tok_s, 10);
  out["ttft_ms"] = milliseconds(s.ttft_s);
  out["itl_ms"] = milliseconds(s.itl_s);
  out["e2e_ms"] = milliseconds(s.e2e_s);
  return out;
}

void print_spread(const char* name, const std::optional<Spread>& s) {
  if (!s) return;
  fmt::print("{:<6}{:>11.2f}{:>11.2f}{:>11.2f}{:>11.2f}{:>11.2f} ms\n", name, 1e3 * s->mean,
             1e3 * s->p50, 1e3 * s->p90, 1e3 * s->p99, 1e3 * s->max);
}

void print_table(const Options& options, const Summary& s) {
  const LoadOptions& load = options.load;
  fmt::print("{}{}{}: {} requests of {} + {} tokens, {}{} at a time, on {}\n", options.label,
             options.label.empty() ? "" : " | ", load.model, s.requests, load.input_len,
             load.output_len,
             load.request_rate > 0 ? fmt::format("{} a second, at most ", load.request_rate) : "",
             load.concurrency, options.device);
  if (s.errors > 0) fmt::print("{} FAILED, the first: {}\n", s.errors, s.first_error);
  if (s.errors == s.requests) return;
  fmt::print("output {:10.1f} tok/s   steady {}   one stream {:.1f} tok/s\n", s.output_tok_s,
             s.steady_tok_s ? fmt::format("{:.1f} tok/s", *s.steady_tok_s) : "-", s.decode_tok_s);
  fmt::print("prompt {:10.1f} tok/s   of one request {:.1f} tok/s   {:.2f} requests/s\n",
             s.prompt_tok_s, s.prefill_tok_s, s.request_per_s);
  fmt::print("{:<6}{:>11}{:>11}{:>11}{:>11}{:>11}\n", "", "mean", "p50", "p90", "p99", "max");
  print_spread("TTFT", s.ttft_s);
  print_spread("ITL", s.itl_s);
  print_spread("E2E", s.e2e_s);
}

void declare(CLI::App& app, Options& o) {
  LoadOptions& load = o.load;
  app.add_option("--url", o.url, "the server")->capture_default_str();
  app.add_option("--model", load.model, "served model name (the first of /v1/models)");
  app.add_option("--api-key", load.api_key, "sent as a bearer token");
  app.add_option("--input-len", load.input_len, "prompt tokens")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--output-len", load.output_len, "tokens to generate")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--concurrency", load.concurrency,
                 "streams in flight; with --request-rate: at most (all of them)")
      ->check(CLI::Range(1, 65536));
  app.add_option("--request-rate", load.request_rate,
                 "arrivals a second of a seeded Poisson process; 0: closed loop")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--num-requests", o.num_requests, "requests of a run")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--warmup", o.warmup, "requests served first, not counted")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs, one JSON line each")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seed", load.seed, "of prompts and arrivals")->capture_default_str();
  app.add_option("--min-id", load.min_id, "lowest token id in prompts")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.add_option("--max-id", load.max_id, "token id above the highest in prompts")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  app.add_option("--extra", o.extra, "JSON object merged into every request");
  app.add_option("--timeout", load.timeout_s, "seconds for a request")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--threads", load.threads, "threads that share the streams")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--label", o.label, "copied into the output");
  app.add_option("--device", o.device, "copied into the output (the GPU or CPU of this machine)");
  app.add_option("--commit", o.commit, "copied into the output");
  app.add_flag("--json", o.json_only, "print the JSON lines only");
}

// What the flags leave open, and what they cannot say alone.
Result<void> complete(Options& options) {
  LoadOptions& load = options.load;
  if (load.max_id <= load.min_id)
    return fail(ErrorCode::kInvalidArgument, "--max-id must be above --min-id");
  Result<Endpoint> endpoint = parse_url(options.url);
  if (!endpoint) return forward_error(endpoint);
  load.endpoint = std::move(*endpoint);
  Result<json::value> extra = parse_json(options.extra);
  if (!extra || !extra->is_object())
    return fail(ErrorCode::kInvalidArgument, "--extra: expected a JSON object");
  const std::string members = json::serialize(*extra);
  load.extra_json = members.substr(1, members.size() - 2);
  if (load.model.empty()) {
    Result<std::string> model = first_model(load);
    if (!model) return forward_error(model);
    load.model = std::move(*model);
  }
  const std::string quoted = json::serialize(json::string(load.model));
  load.model = quoted.substr(1, quoted.size() - 2);
  if (options.device.empty()) options.device = this_device();
  return {};
}

Result<int> run(Options& options) {
  if (Result<void> ok = complete(options); !ok) return forward_error(ok);
  const std::string version = server_version(options.load);
  const LoadOptions& load = options.load;
  uint64_t first = 0;
  if (options.warmup > 0) {
    LoadOptions closed = load;
    closed.request_rate = 0;
    Result<std::vector<Record>> records = run_load(closed, first, options.warmup);
    if (!records) return forward_error(records);
    first += static_cast<uint64_t>(options.warmup);
  }
  for (int turn = 0; turn < options.repeat; ++turn) {
    Result<std::vector<Record>> records = run_load(load, first, options.num_requests);
    if (!records) return forward_error(records);
    first += static_cast<uint64_t>(options.num_requests);
    const size_t wave = load.request_rate > 0 ? 0 : static_cast<size_t>(load.concurrency);
    const Summary summary = summarize(*records, wave);
    if (!options.json_only) print_table(options, summary);
    fmt::print("{}\n", text_of(json_line(options, version, summary)));
    std::fflush(stdout);
    if (summary.errors > 0) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace donar::bench::serve

int main(int argc, char** argv) {
  using namespace donar::bench::serve;
  CLI::App app("Load on a server that speaks OpenAI's POST /v1/completions, and what came of it.");
  Options options;
  declare(app, options);
  CLI11_PARSE(app, argc, argv);
  if (app.count("--concurrency") == 0 && options.load.request_rate > 0)
    options.load.concurrency = options.num_requests;
  donar::Result<int> code = run(options);
  if (!code) {
    fmt::print(stderr, "bench_serve: {}\n", code.error().message);
    return 2;
  }
  return *code;
}
