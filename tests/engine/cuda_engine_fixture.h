// A tiny model behind an engine on a CUDA device, in every way that an engine may run it, and what
// a request answered. Skips without a device, unless DONAR_REQUIRE_CUDA is set.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <random>

#include "engine/cuda_worker.h"
#include "engine/engine.h"
#include "model/model.h"
#include "tests/model/test_files.h"

namespace donar::engine {

namespace fs = std::filesystem;

struct Answer {
  std::vector<std::vector<int32_t>> tokens;         // per choice
  std::vector<std::vector<TokenLogprob>> logprobs;  // per choice, positions one after the other
  std::vector<TokenLogprob> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  int num_preemptions = 0;
};

// Counts steps by how they were launched.
class StepCounter : public StatsListener {
 public:
  void on_step(const StepStats& step) override {
    if (step.generated_tokens + step.prompt_tokens == 0) return;
    ++(step.is_graph ? num_graphs : num_eager);
  }
  void on_first_token(double) override {}
  void on_inter_token(double) override {}
  void on_finish(const RequestTiming&, FinishReason, const Request&) override {}
  std::atomic<int> num_graphs{0}, num_eager{0};
};

// The same device, but every step ends before the next is scheduled.
class OneStepAtATime : public StepRunner {
 public:
  explicit OneStepAtATime(std::unique_ptr<StepRunner> runner) : runner_(std::move(runner)) {}
  void start_thread() override { runner_->start_thread(); }
  int depth() const override { return 0; }
  Result<void> launch(const StepPlan& plan) override { return runner_->launch(plan); }
  Result<StepResult> collect() override { return runner_->collect(); }

 private:
  std::unique_ptr<StepRunner> runner_;
};

class CudaEngine : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const Result<std::vector<CudaDevice>> devices = cuda_devices();
    if (!devices || devices->empty()) {
      const std::string reason = devices ? "there is no CUDA device" : devices.error().message;
      if (std::getenv("DONAR_REQUIRE_CUDA") != nullptr) FAIL() << reason;
      GTEST_SKIP() << reason;
    }
    const Result<CudaDevice> opened = open_cuda_device(0);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    device_ = *opened;
    Result<model::ModelFiles> files = model::open_model(model::test::tiny(GetParam()));
    ASSERT_TRUE(files.has_value());
    files_ = std::move(*files);
  }
  void TearDown() override {
    EXPECT_EQ(ledger_.total(), 0u) << ledger_.summary();
    EXPECT_EQ(host_ledger_.total(), 0u) << host_ledger_.summary();
  }

  static EngineConfig config() {
    EngineConfig config;
    config.max_num_seqs = 16;
    config.max_num_batched_tokens = 64;
    config.max_model_len = 128;
    config.kv_cache_bytes = 4 << 20;
    return config;
  }
  // Long prompts too give the same bits whatever shares their steps.
  static EngineConfig invariant() {
    EngineConfig invariant = config();
    invariant.batch_invariant = true;
    return invariant;
  }

  model::Weights load() {
    const model::LoadOptions options;
    const Result<DType> dtype = model::cuda_dtype(files_, options);
    EXPECT_TRUE(dtype.has_value());
    const CudaStream stream = CudaStream::create(device_);
    ThreadPool pool(2);
    Exec ex;
    ex.device = DeviceType::kCuda;
    ex.cuda = &stream.exec();
    ex.pool = &pool;
    ex.activation = *dtype;
    Result<model::Weights> weights =
        model::load_weights(ex, ledger_, files_, options, &host_ledger_);
    EXPECT_TRUE(weights.has_value()) << (weights ? "" : weights.error().message);
    return std::move(*weights);
  }

  std::unique_ptr<Engine> start(const EngineConfig& config, StatsListener* listener = nullptr) {
    CudaTarget target;
    target.device = &device_;
    target.limit = memory_limit(device_.total_bytes, cuda_memory().free_bytes, 0.5);
    target.host_ledger = &host_ledger_;
    Result<std::unique_ptr<Engine>> engine =
        Engine::create(ledger_, files_.config, load(), config, /*threads=*/2,
                       /*tokenizer_vocab=*/0, listener, target);
    EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message);
    return std::move(*engine);
  }

  // Exact: float32 weights and cache.
  std::unique_ptr<Engine> start_on_cpu() {
    Result<Buffer> scratch = Buffer::allocate(host_ledger_, MemoryUse::kStaging, 16 << 20);
    EXPECT_TRUE(scratch.has_value());
    Arena arena(std::move(*scratch));
    ThreadPool pool(2);
    Exec exec{DeviceType::kCpu, detect_cpu_isa(), &pool, &arena};
    model::LoadOptions options;
    options.dtype = DType::kF32;
    Result<model::Weights> weights = model::load_weights(exec, host_ledger_, files_, options);
    EXPECT_TRUE(weights.has_value()) << (weights ? "" : weights.error().message);
    EngineConfig exact = config();
    exact.kv_dtype = DType::kF32;
    Result<std::unique_ptr<Engine>> engine =
        Engine::create(host_ledger_, files_.config, std::move(*weights), exact, 2, 0, nullptr);
    EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message);
    return std::move(*engine);
  }

  int64_t kv_bytes(int64_t num_blocks) const {
    return num_blocks * static_cast<int64_t>(kv::KvStore::bytes_per_block(
                            model::Decoder::kv_layers(files_.config, DType::kBF16)));
  }

  std::vector<int32_t> golden(const char* name) const {
    const model::Checkpoint golden =
        model::test::open_golden(model::test::tiny(GetParam()) / "logits.safetensors");
    std::vector<int32_t> tokens;
    for (int64_t id : model::test::read_tensor<int64_t>(golden, name))
      tokens.push_back(static_cast<int32_t>(id));
    return tokens;
  }

  Request golden_request() const {
    Request request;
    request.prompt = golden("input_ids");
    request.max_tokens = static_cast<int>(golden("greedy").size());
    request.sampling.temperature = 0.0f;
    request.sampling.ignore_eos = true;
    return request;
  }

  static void append(const PositionLogprobs& from, std::vector<TokenLogprob>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }

  static Answer read(Stream& stream, int num_choices) {
    Answer answer;
    answer.tokens.resize(static_cast<size_t>(num_choices));
    answer.logprobs.resize(static_cast<size_t>(num_choices));
    while (std::optional<TokenEvent> event = stream.pop()) {
      EXPECT_FALSE(event->error) << event->error->message;
      const auto choice = static_cast<size_t>(event->choice);
      for (int32_t token : event->tokens) answer.tokens[choice].push_back(token);
      for (const PositionLogprobs& position : event->logprobs)
        append(position, answer.logprobs[choice]);
      for (const PositionLogprobs& position : event->prompt_logprobs)
        append(position, answer.prompt_logprobs);
      answer.finish = event->finish;
    }
    answer.num_preemptions = stream.timing().num_preemptions;
    return answer;
  }

  static std::vector<Answer> run_together(Engine& engine, const std::vector<Request>& requests) {
    std::vector<Stream> streams;
    for (const Request& request : requests) {
      Result<Stream> stream = engine.submit(request);
      EXPECT_TRUE(stream.has_value()) << (stream ? "" : stream.error().message);
      streams.push_back(std::move(*stream));
    }
    std::vector<Answer> answers;
    for (size_t i = 0; i < requests.size(); ++i)
      answers.push_back(read(streams[i], requests[i].num_choices));
    return answers;
  }
  static Answer run_one(Engine& engine, const Request& request) {
    return run_together(engine, {request})[0];
  }
  static std::vector<Answer> run_alone(Engine& engine, const std::vector<Request>& requests) {
    std::vector<Answer> answers;
    for (const Request& request : requests) answers.push_back(run_one(engine, request));
    return answers;
  }

  // Of every kind: greedy and seeded, with penalties, lists, logprobs, limits and choices.
  static std::vector<Request> requests(int max_prompt) {
    std::mt19937 random(7);
    std::vector<Request> requests;
    for (int i = 0; i < 24; ++i) {
      Request request;
      const int length = 1 + static_cast<int>(random() % static_cast<uint32_t>(max_prompt));
      for (int j = 0; j < length; ++j)
        request.prompt.push_back(static_cast<int32_t>(random() % 60));
      request.max_tokens = 20 + static_cast<int>(random() % 30);
      SamplingParams& sampling = request.sampling;
      sampling.temperature = i % 2 ? 0.9f : 0.0f;
      sampling.seed = static_cast<uint64_t>(100 + i);
      sampling.ignore_eos = i % 3 != 0;
      if (i % 4 == 1) sampling.top_p = 0.8f;
      if (i % 8 == 3) sampling.top_k = 10;
      if (i % 8 == 7) sampling.min_p = 0.1f;
      if (i % 5 == 0) sampling.presence_penalty = 0.5f;
      if (i % 6 == 0) sampling.repetition_penalty = 1.2f;
      if (i % 7 == 3) sampling.logit_bias = {{3, 2.0f}, {9, -4.0f}};
      if (i % 7 == 5) sampling.bad_words = {{4}, {5, 6}, {5, 6, 7}};
      if (i % 9 == 4)
        for (int32_t token = 10; token < 50; ++token) sampling.allowed_tokens.push_back(token);
      if (i % 4 == 2) sampling.min_tokens = 10;
      if (i % 2 == 0) sampling.num_logprobs = 3;
      if (i % 7 == 2) sampling.num_prompt_logprobs = 2;
      if (i == 5) request.num_choices = 3;
      requests.push_back(std::move(request));
    }
    return requests;
  }

  static bool same(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
    return std::ranges::equal(a, b, [](const TokenLogprob& x, const TokenLogprob& y) {
      return x.token == y.token && x.logprob == y.logprob && x.rank == y.rank;
    });
  }
  static void expect_same(const std::vector<Answer>& got, const std::vector<Answer>& expected,
                          const char* what) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, expected[i].tokens) << what << ", request " << i;
      for (size_t choice = 0; choice < got[i].logprobs.size(); ++choice) {
        EXPECT_TRUE(same(got[i].logprobs[choice], expected[i].logprobs[choice]))
            << what << ", request " << i << ", choice " << choice;
      }
      EXPECT_TRUE(same(got[i].prompt_logprobs, expected[i].prompt_logprobs))
          << what << ", request " << i;
    }
  }

  CudaDevice device_;
  model::ModelFiles files_;
  MemoryLedger host_ledger_;
  MemoryLedger ledger_{0, MemorySpace::kCuda};
};

}  // namespace donar::engine
