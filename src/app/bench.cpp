// donar bench: prompt and decode speed through the engine, beside the read bandwidth of the same
// machine in the same run.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <random>

#include "app/bandwidth.h"
#include "app/commands.h"
#include "app/session.h"
#include "base/thread_pool.h"
#include "kv/kv_store.h"
#include "model/decoder.h"

namespace donar::app {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

// FNV-1a: a speed change that alters the output shows at once.
struct Hash {
  uint64_t value = 14695981039346656037ull;
  void add(uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8)
      value = (value ^ ((word >> shift) & 0xff)) * 1099511628211ull;
  }
};

struct Batch {
  TimePoint submitted, first_token,
      last_token;  // first submit; latest first token; latest last token
  int64_t generated = 0;
  Hash hash;
};

int decode_context(const BenchOptions& bench) {
  return bench.context > 0 ? bench.context : bench.input_len;
}

Prompts random_prompts(const Options& options, int64_t vocab, int length) {
  std::mt19937_64 random(options.engine.seed);
  std::uniform_int_distribution<int32_t> ids(0, static_cast<int32_t>(vocab) - 1);
  Prompts prompts(static_cast<size_t>(options.bench.batch_size));
  for (std::vector<int32_t>& prompt : prompts) {
    prompt.resize(static_cast<size_t>(length));
    for (int32_t& id : prompt) id = ids(random);
  }
  return prompts;
}

Result<Batch> run_batch(engine::EngineApi& engine, const Prompts& prompts, int max_tokens,
                        int num_logprobs = -1) {
  Batch out;
  out.submitted = Clock::now();
  std::vector<engine::Stream> streams;
  for (const std::vector<int32_t>& prompt : prompts) {
    engine::Request request;
    request.prompt = prompt;
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0.0f;
    request.sampling.ignore_eos = true;
    request.sampling.num_logprobs = num_logprobs;
    Result<engine::Stream> stream = engine.submit(std::move(request));
    if (!stream) return forward_error(stream);
    streams.push_back(std::move(*stream));
  }
  for (engine::Stream& stream : streams) {
    while (std::optional<engine::TokenEvent> event = stream.pop()) {
      if (event->error) return tl::unexpected<Error>(std::move(*event->error));
      for (const int32_t token : event->tokens) out.hash.add(static_cast<uint32_t>(token));
      for (const engine::PositionLogprobs& position : event->logprobs) {
        for (const engine::TokenLogprob& entry : position) {
          out.hash.add(static_cast<uint32_t>(entry.token));
          out.hash.add(std::bit_cast<uint32_t>(entry.logprob));
        }
      }
    }
    const engine::RequestTiming timing = stream.timing();
    out.first_token = std::max(out.first_token, timing.first_token);
    out.last_token = std::max(out.last_token, timing.last_token);
    out.generated += timing.generated_tokens;
  }
  return out;
}

double best(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

struct Speeds {
  std::vector<double> prompt_tokens_per_s, decode_tokens_per_s;
  uint64_t tokens_hash = 0;
};

Result<Speeds> measure(engine::EngineApi& engine, const BenchOptions& bench, const Prompts& prompts,
                       const Prompts& contexts) {
  Speeds out;
  for (int i = 0; i <= bench.repeat; ++i) {  // the first run warms up
    engine.reset_prefix_cache();
    Result<Batch> prefill = run_batch(engine, prompts, /*max_tokens=*/1);
    if (!prefill) return forward_error(prefill);
    if (bench.context > 0) {
      Result<Batch> context = run_batch(engine, contexts, /*max_tokens=*/1);
      if (!context) return forward_error(context);
    }
    // The contexts are in the prefix cache now, so all sequences decode together from the start.
    Result<Batch> decode = run_batch(engine, contexts, bench.output_len);
    if (!decode) return forward_error(decode);
    if (i == 0) continue;
    const double prompt_tokens = static_cast<double>(bench.input_len) * bench.batch_size;
    const double decode_tokens = static_cast<double>(decode->generated) - bench.batch_size;
    out.prompt_tokens_per_s.push_back(prompt_tokens /
                                      seconds_between(prefill->submitted, prefill->first_token));
    out.decode_tokens_per_s.push_back(decode_tokens /
                                      seconds_between(decode->first_token, decode->last_token));
    if (i > 1 && out.tokens_hash != decode->hash.value)
      return fail(ErrorCode::kInternal,
                  "run {} gave other tokens than run 1: the output is not deterministic", i);
    out.tokens_hash = decode->hash.value;
  }
  return out;
}

// Keys and values that one decode step reads of all sequences, half-way through the answer.
double step_kv_bytes(const Options& options, const Session& session) {
  const auto layers = model::Decoder::kv_layers(session.config, session.kv_dtype);
  const double kv_token =
      static_cast<double>(kv::KvStore::bytes_per_block(layers)) / kv::kBlockTokens;
  const double context = decode_context(options.bench) + options.bench.output_len / 2.0;
  return kv_token * context * options.bench.batch_size;
}

Result<double> read_bandwidth(const Session& session, Memory& memory, int threads) {
  if constexpr (kCuda)
    if (session.device.cuda) return measure_cuda_read_bandwidth(*session.device.cuda);
  ThreadPool pool(threads);
  return measure_read_bandwidth(pool, memory.host);
}

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace

Result<int> bench(const Options& given) {
  Options options = given;
  const BenchOptions& bench = options.bench;
  options.engine.max_num_seqs = bench.batch_size;
  options.engine.prefix_caching = true;
  const int context = decode_context(bench);
  const int64_t needed = std::max<int64_t>(bench.input_len, context) + bench.output_len;
  if (options.engine.max_model_len == 0) options.engine.max_model_len = needed;

  Memory memory;
  Result<Session> session = open_session(options, memory, {});
  if (!session) return forward_error(session);
  const bool is_cuda = session->device.cuda.has_value();
  const int threads = step_threads(options);
  const int64_t vocab = std::min(session->text.tokenizer->vocab_size(), session->config.vocab_size);
  const Prompts prompts = random_prompts(options, vocab, bench.input_len);
  Result<double> bandwidth = read_bandwidth(*session, memory, threads);
  if (!bandwidth) return forward_error(bandwidth);
  Result<Speeds> speeds =
      measure(*session->engine, bench, prompts, random_prompts(options, vocab, context));
  if (!speeds) return forward_error(speeds);
  // Again: on a shared machine it changes within seconds, and a share of a low moment says nothing.
  Result<double> bandwidth_after = read_bandwidth(*session, memory, threads);
  if (!bandwidth_after) return forward_error(bandwidth_after);
  *bandwidth = std::max(*bandwidth, *bandwidth_after);
  constexpr int kHashedLogprobs = 20;
  Result<Batch> logits =
      run_batch(*session->engine, {prompts.front()}, /*max_tokens=*/1, kHashedLogprobs);
  if (!logits) return forward_error(logits);

  const double prompt_rate = median(speeds->prompt_tokens_per_s);
  const double decode_rate = median(speeds->decode_tokens_per_s);
  const double step_weight_bytes =
      static_cast<double>(session->weight_bytes - session->embedding_bytes);
  const double step_bytes = step_weight_bytes + step_kv_bytes(options, *session);
  const double read_rate = decode_rate / bench.batch_size * step_bytes;
  if (!bench.json_only) {
    fmt::print("{} ({}), {}, KV {}\n", session->model, session->precision,
               is_cuda ? session->device.description()
                       : fmt::format("{} threads, {}", threads, cpu_isa_name(detect_cpu_isa())),
               dtype_name(session->kv_dtype));
    fmt::print("memory   {}\n", memory.summary());
    fmt::print("load     {:.2f} s\n",
               session->open_seconds + session->weights_seconds + session->engine_seconds);
    fmt::print("prompt   {:10.1f} tok/s   ({} x {} tokens, median of {})\n", prompt_rate,
               bench.batch_size, bench.input_len, bench.repeat);
    fmt::print("decode   {:10.1f} tok/s   ({} x {} tokens after {}, {:.2f} ms a step)\n",
               decode_rate, bench.batch_size, bench.output_len, context,
               1e3 * bench.batch_size / decode_rate);
    fmt::print("read     {:10.1f} GB/s    of {:.1f} GB/s measured: {:.0f} %\n", read_rate / 1e9,
               *bandwidth / 1e9, 100 * read_rate / *bandwidth);
    fmt::print("hash     tokens {}, last logits {}\n", hex(speeds->tokens_hash),
               hex(logits->hash.value));
  }
  const json::object line = {
      {"model", session->model},
      {"precision", session->precision},
      {"device", session->device.description()},
      {"threads", threads},
      {"isa", cpu_isa_name(detect_cpu_isa())},
      {"kv_cache_dtype", std::string(dtype_name(session->kv_dtype))},
      {"input_len", bench.input_len},
      {"output_len", bench.output_len},
      {"context", context},
      {"batch_size", bench.batch_size},
      {"repeat", bench.repeat},
      {"prompt_tokens_per_s", prompt_rate},
      {"decode_tokens_per_s", decode_rate},
      {"best_prompt_tokens_per_s", best(speeds->prompt_tokens_per_s)},
      {"best_decode_tokens_per_s", best(speeds->decode_tokens_per_s)},
      {"weight_bytes", session->weight_bytes},
      {"step_weight_bytes", step_weight_bytes},
      {"step_kv_bytes", step_bytes - step_weight_bytes},
      {"decode_read_bytes_per_s", read_rate},
      {"read_bandwidth_bytes_per_s", *bandwidth},
      {"bandwidth_share", read_rate / *bandwidth},
      {"tokens_hash", hex(speeds->tokens_hash)},
      {"logits_hash", hex(logits->hash.value)},
  };
  fmt::print("{}\n", json::serialize(line));
  return 0;
}

}  // namespace donar::app
