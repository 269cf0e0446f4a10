// The registry, built once; every observation is a few atomic operations.
#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "server/process_metrics.h"
#include "server/server.h"

namespace donar::server {
namespace {

using Buckets = std::vector<double>;
using Labels = prometheus::Labels;

// vLLM's, see its metrics/buckets.
const Buckets& ttft_buckets() {
  static const Buckets buckets{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                               1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
  return buckets;
}
const Buckets& token_time_buckets() {
  static const Buckets buckets{.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                               .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
  return buckets;
}
const Buckets& request_time_buckets() {
  static const Buckets buckets{.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                               30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
  return buckets;
}
// Finer, from half a millisecond: a fast model's tokens all fall into vLLM's first bucket.
const Buckets& fine_buckets() {
  static const Buckets buckets{.0005, .001, .0015, .002, .003, .004, .005, .0075, .01,
                               .015,  .02,  .03,   .05,  .075, .1,   .15,  .2,    .3,
                               .5,    .75,  1,     2,    5,    10,   30,   60};
  return buckets;
}

// From five microseconds: what the host does between two steps of a device.
const Buckets& host_buckets() {
  static const Buckets buckets{5e-6,  1e-5,  2e-5,   3e-5, 5e-5, 7.5e-5, .0001, .00015, .0002,
                               .0003, .0005, .00075, .001, .002, .005,   .01,   .1,     1};
  return buckets;
}

Buckets one_two_five(int64_t up_to) {
  Buckets buckets;
  for (int64_t decade = 1; decade <= up_to; decade *= 10)
    for (const int64_t step : {1, 2, 5})
      if (decade * step <= up_to) buckets.push_back(static_cast<double>(decade * step));
  return buckets;
}

const char* reason_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return "stop";
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kError:
      return "error";
    case engine::FinishReason::kNone:
    case engine::FinishReason::kAbort:
      break;
  }
  return "abort";
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  ProcessMetrics process;
  Labels common;

  explicit Impl(const std::string& model_name)
      : common{{"model_name", model_name}, {"engine", "0"}} {}

  prometheus::Counter& counter(const char* name, const char* help, const Labels& extra = {}) {
    return prometheus::BuildCounter().Name(name).Help(help).Labels(common).Register(registry).Add(
        extra);
  }
  prometheus::Gauge& gauge(const char* name, const char* help, const Labels& extra = {}) {
    return prometheus::BuildGauge().Name(name).Help(help).Labels(common).Register(registry).Add(
        extra);
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets,
                                   const Labels& extra = {}) {
    return prometheus::BuildHistogram().Name(name).Help(help).Labels(common).Register(registry).Add(
        extra, buckets);
  }

  // Gauges, set when somebody looks.
  prometheus::Gauge& running =
      gauge("vllm:num_requests_running", "Number of requests in model execution batches.");
  prometheus::Gauge& waiting =
      gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.");
  prometheus::Gauge& waiting_capacity =
      gauge("vllm:num_requests_waiting_by_reason", "Number of waiting requests by reason.",
            {{"reason", "capacity"}});
  prometheus::Gauge& waiting_deferred =
      gauge("vllm:num_requests_waiting_by_reason", "Number of waiting requests by reason.",
            {{"reason", "deferred"}});
  prometheus::Gauge& kv_usage =
      gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.");
  // Names of earlier versions, which routers and dashboards still read.
  prometheus::Gauge& old_kv_usage = gauge(
      "vllm:gpu_cache_usage_perc", "KV-cache usage (former name). 1 means 100 percent usage.");
  prometheus::Gauge& old_hit_rate =
      gauge("vllm:gpu_prefix_cache_hit_rate",
            "Prefix cache hits / queries since the start (former name).");
  prometheus::Gauge& old_swapped = gauge(
      "vllm:num_requests_swapped", "Number of requests swapped out (former name): none ever are.");
  prometheus::Gauge& old_cpu_usage =
      gauge("vllm:cpu_cache_usage_perc",
            "Usage of a second KV-cache on the host (former name): there is none.");

  prometheus::Counter& prompt_tokens =
      counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.");
  prometheus::Counter& prompt_computed =
      counter("vllm:prompt_tokens_by_source_total", "Number of prompt tokens by source.",
              {{"source", "local_compute"}});
  prometheus::Counter& prompt_from_cache =
      counter("vllm:prompt_tokens_by_source_total", "Number of prompt tokens by source.",
              {{"source", "local_cache_hit"}});
  prometheus::Counter& prompt_cached = counter(
      "vllm:prompt_tokens_cached_total", "Number of prompt tokens found in the prefix cache.");
  prometheus::Counter& generation_tokens =
      counter("vllm:generation_tokens_total", "Number of generation tokens processed.");
  prometheus::Counter& preemptions =
      counter("vllm:num_preemptions_total", "Cumulative number of preemptions from the engine.");
  prometheus::Counter& prefix_queries =
      counter("vllm:prefix_cache_queries_total",
              "Prefix cache queries, in terms of number of queried tokens.");
  prometheus::Counter& prefix_hits = counter(
      "vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.");
  prometheus::Counter& old_prefix_queries = counter(
      "vllm:gpu_prefix_cache_queries_total", "Prefix cache queries in tokens (former name).");
  prometheus::Counter& old_prefix_hits =
      counter("vllm:gpu_prefix_cache_hits_total", "Prefix cache hits in tokens (former name).");
  prometheus::Family<prometheus::Counter>& success =
      prometheus::BuildCounter()
          .Name("vllm:request_success_total")
          .Help("Count of successfully processed requests.")
          .Labels(common)
          .Register(registry);

  prometheus::Histogram& ttft =
      histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.",
                ttft_buckets());
  prometheus::Histogram& itl =
      histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
                token_time_buckets());
  prometheus::Histogram& old_tpot =
      histogram("vllm:time_per_output_token_seconds",
                "Histogram of inter-token latency in seconds (former name).", token_time_buckets());
  prometheus::Histogram& fine_ttft =
      histogram("donar:time_to_first_token_seconds",
                "Time to first token in seconds, fine buckets.", fine_buckets());
  prometheus::Histogram& fine_itl =
      histogram("donar:inter_token_latency_seconds",
                "Time between tokens in seconds, fine buckets.", fine_buckets());
  prometheus::Histogram& step_seconds =
      histogram("donar:step_seconds", "Time of an engine step in seconds.", fine_buckets());
  static constexpr const char* kHostSeconds = "donar:step_host_seconds";
  static constexpr const char* kHostSecondsHelp =
      "Time of the host between two engine steps in seconds, by how the second was launched.";
  prometheus::Histogram& graph_host_seconds =
      histogram(kHostSeconds, kHostSecondsHelp, host_buckets(), {{"launch", "graph"}});
  prometheus::Histogram& eager_host_seconds =
      histogram(kHostSeconds, kHostSecondsHelp, host_buckets(), {{"launch", "eager"}});
  prometheus::Histogram& tpot = histogram(
      "vllm:request_time_per_output_token_seconds",
      "Histogram of time per output token of each request in seconds.", token_time_buckets());
  prometheus::Histogram& e2e =
      histogram("vllm:e2e_request_latency_seconds",
                "Histogram of end to end request latency in seconds.", request_time_buckets());
  prometheus::Histogram& queue =
      histogram("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase.",
                request_time_buckets());
  prometheus::Histogram& inference =
      histogram("vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase.",
                request_time_buckets());
  prometheus::Histogram& prefill =
      histogram("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase.",
                request_time_buckets());
  prometheus::Histogram& decode =
      histogram("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase.",
                request_time_buckets());
  prometheus::Histogram& iteration =
      histogram("vllm:iteration_tokens_total", "Histogram of number of tokens per engine step.",
                {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384});
  prometheus::Histogram& params_n = histogram(
      "vllm:request_params_n", "Histogram of the n request parameter.", {1, 2, 5, 10, 20});
  prometheus::Histogram& request_preemptions =
      histogram("vllm:request_num_preemptions", "Histogram of preemptions per request.",
                {1, 2, 3, 4, 5, 10, 20});

  // Known with the model.
  struct Lengths {
    prometheus::Histogram& prompt;
    prometheus::Histogram& generation;
    prometheus::Histogram& max_generation;
    prometheus::Histogram& params_max_tokens;
    prometheus::Histogram& computed;
  };
  std::mutex model_mutex;
  std::unique_ptr<Lengths> lengths_owner;
  std::atomic<Lengths*> lengths{nullptr};

  prometheus::Family<prometheus::Gauge>& startup =
      prometheus::BuildGauge()
          .Name("donar:startup_seconds")
          .Help("Time of each phase of the start in seconds.")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& memory =
      prometheus::BuildGauge()
          .Name("donar:memory_bytes")
          .Help("Bytes by memory and use, from the ledgers.")
          .Register(registry);

  prometheus::Family<prometheus::Counter>& http_requests =
      prometheus::BuildCounter()
          .Name("http_requests_total")
          .Help("Total number of requests by method, status and handler.")
          .Register(registry);
  prometheus::Family<prometheus::Histogram>& http_seconds =
      prometheus::BuildHistogram()
          .Name("http_request_duration_seconds")
          .Help("Latency of requests by handler and method, in seconds.")
          .Register(registry);
};

Metrics::Metrics(const std::string& model_name) : impl_(std::make_unique<Impl>(model_name)) {
  for (const char* reason : {"stop", "length", "abort", "error"})
    impl_->success.Add({{"finished_reason", reason}});
}

Metrics::~Metrics() = default;

void Metrics::on_step(const engine::StepStats& step) {
  Impl& impl = *impl_;
  impl.prompt_computed.Increment(step.prompt_tokens);
  impl.prompt_tokens.Increment(step.prompt_tokens + static_cast<double>(step.prefix_hits));
  impl.prompt_from_cache.Increment(static_cast<double>(step.prefix_hits));
  impl.prompt_cached.Increment(static_cast<double>(step.prefix_hits));
  impl.generation_tokens.Increment(step.generated_tokens);
  impl.preemptions.Increment(step.preemptions);
  impl.prefix_queries.Increment(static_cast<double>(step.prefix_queries));
  impl.old_prefix_queries.Increment(static_cast<double>(step.prefix_queries));
  impl.prefix_hits.Increment(static_cast<double>(step.prefix_hits));
  impl.old_prefix_hits.Increment(static_cast<double>(step.prefix_hits));
  if (step.seconds == 0.0) return;  // no step: cancels left nothing to run
  impl.iteration.Observe(step.prompt_tokens + step.generated_tokens);
  impl.step_seconds.Observe(step.seconds);
  (step.is_graph ? impl.graph_host_seconds : impl.eager_host_seconds).Observe(step.host_seconds);
}

void Metrics::on_first_token(double seconds) {
  impl_->ttft.Observe(seconds);
  impl_->fine_ttft.Observe(seconds);
}

void Metrics::on_inter_token(double seconds) {
  impl_->itl.Observe(seconds);
  impl_->old_tpot.Observe(seconds);
  impl_->fine_itl.Observe(seconds);
}

void Metrics::on_finish(const engine::RequestTiming& timing, engine::FinishReason reason,
                        const engine::Request& request) {
  Impl& impl = *impl_;
  impl.success.Add({{"finished_reason", reason_name(reason)}}).Increment();
  const auto span = [](TimePoint begin, TimePoint end) {
    return std::max(0.0, seconds_between(begin, end));
  };
  const bool ran = timing.scheduled != TimePoint{};
  const bool answered = ran && timing.first_token != TimePoint{};
  impl.e2e.Observe(span(timing.arrived, answered ? timing.last_token : Clock::now()));
  if (ran) impl.queue.Observe(span(timing.arrived, timing.scheduled));
  if (answered) {
    impl.inference.Observe(span(timing.scheduled, timing.last_token));
    impl.prefill.Observe(span(timing.scheduled, timing.first_token));
    const double decode = span(timing.first_token, timing.last_token);
    impl.decode.Observe(decode);
    const int per_choice = timing.generated_tokens / std::max(1, request.num_choices);
    if (per_choice > 1) impl.tpot.Observe(decode / (per_choice - 1));
  }
  impl.params_n.Observe(request.num_choices);
  impl.request_preemptions.Observe(timing.num_preemptions);
  if (Impl::Lengths* lengths = impl.lengths.load(std::memory_order_acquire)) {
    lengths->prompt.Observe(timing.prompt_tokens);
    lengths->generation.Observe(timing.generated_tokens);
    lengths->max_generation.Observe(static_cast<double>(timing.generated_tokens) /
                                    std::max(1, request.num_choices));
    lengths->params_max_tokens.Observe(request.max_tokens);
    lengths->computed.Observe(timing.prompt_tokens - timing.cached_tokens);
  }
}

void Metrics::set_model(const ServedModel& model, int64_t max_model_len) {
  Impl& impl = *impl_;
  std::lock_guard lock(impl.model_mutex);
  if (impl.lengths_owner != nullptr) return;
  impl.gauge("vllm:cache_config_info", "Information of the KV cache configuration.",
             {{"block_size", std::to_string(model.block_size)},
              {"num_gpu_blocks", std::to_string(model.num_blocks)},
              {"cache_dtype", model.kv_dtype.empty() ? "auto" : model.kv_dtype},
              {"enable_prefix_caching", model.prefix_caching ? "True" : "False"}})
      .Set(1);
  const Buckets buckets = one_two_five(max_model_len);
  impl.lengths_owner.reset(new Impl::Lengths{
      impl.histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", buckets),
      impl.histogram("vllm:request_generation_tokens", "Number of generation tokens processed.",
                     buckets),
      impl.histogram("vllm:request_max_num_generation_tokens",
                     "Histogram of maximum number of requested generation tokens.", buckets),
      impl.histogram("vllm:request_params_max_tokens",
                     "Histogram of the max_tokens request parameter.", buckets),
      impl.histogram(
          "vllm:request_prefill_kv_computed_tokens",
          "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
          buckets)});
  impl.lengths.store(impl.lengths_owner.get(), std::memory_order_release);
}

void Metrics::set_startup_seconds(const std::string& phase, double seconds) {
  impl_->startup.Add({{"phase", phase}}).Set(seconds);
}

void Metrics::set_memory_bytes(const std::string& memory, const std::string& use, uint64_t bytes) {
  impl_->memory.Add({{"memory", memory}, {"use", use}}).Set(static_cast<double>(bytes));
}

void Metrics::on_http(const std::string& handler, const std::string& method, int status,
                      double seconds) {
  static constexpr const char* kMethods[] = {"GET", "HEAD",   "POST", "OPTIONS",
                                             "PUT", "DELETE", "PATCH"};
  const bool known =
      std::find(std::begin(kMethods), std::end(kMethods), method) != std::end(kMethods);
  const std::string label = known ? method : "OTHER";  // clients must not be able to grow the table
  impl_->http_requests
      .Add({{"handler", handler},
            {"method", label},
            {"status", std::to_string(status / 100) + "xx"}})
      .Increment();
  impl_->http_seconds
      .Add({{"handler", handler}, {"method", label}},
           Buckets{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60})
      .Observe(seconds);
}

std::string Metrics::text(const engine::EngineGauges& gauges) {
  Impl& impl = *impl_;
  impl.running.Set(gauges.running);
  impl.waiting.Set(gauges.waiting);
  impl.waiting_capacity.Set(gauges.waiting);
  impl.kv_usage.Set(gauges.kv_usage);
  impl.old_kv_usage.Set(gauges.kv_usage);
  const double queries = impl.prefix_queries.Value();
  impl.old_hit_rate.Set(queries > 0 ? impl.prefix_hits.Value() / queries : 0.0);
  std::vector<prometheus::MetricFamily> families = impl.registry.Collect();
  for (prometheus::MetricFamily& family : impl.process.Collect())
    families.push_back(std::move(family));
  std::sort(families.begin(), families.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace donar::server
