// The engine on a CUDA device: its greedy tokens are the CPU's, and a request gives the same tokens
// and logprobs, bit for bit, from graphs and kernel by kernel, alone and batched, with a step in
// flight and without. Skipped without a device, unless DONAR_REQUIRE_CUDA is set.
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
namespace {

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

TEST_P(CudaEngine, greedy_tokens_are_those_of_the_reference) {
  for (bool enforce_eager : {false, true}) {
    SCOPED_TRACE(enforce_eager);
    EngineConfig eager = config();
    eager.enforce_eager = enforce_eager;
    std::unique_ptr<Engine> engine = start(eager);
    EXPECT_EQ(run_one(*engine, golden_request()).tokens[0], golden("greedy"));
    EXPECT_EQ(run_one(*engine, golden_request()).tokens[0], golden("greedy"));  // a prefix hit
  }
}

TEST_P(CudaEngine, logprobs_are_those_of_the_cpu_within_tolerance) {
  Request request = golden_request();
  request.sampling.num_logprobs = 5;
  request.sampling.num_prompt_logprobs = 3;
  const Answer cpu = run_one(*start_on_cpu(), request);
  const Answer cuda = run_one(*start(config()), request);
  ASSERT_EQ(cuda.tokens, cpu.tokens);
  ASSERT_EQ(cuda.logprobs[0].size(), cpu.logprobs[0].size());
  ASSERT_EQ(cuda.prompt_logprobs.size(), cpu.prompt_logprobs.size());
  const auto compare = [](const std::vector<TokenLogprob>& got,
                          const std::vector<TokenLogprob>& expected, size_t per_position) {
    double sum = 0.0;
    size_t count = 0;
    for (size_t i = 0; i < got.size(); i += per_position) {  // the chosen token of each position
      EXPECT_EQ(got[i].token, expected[i].token);
      const double difference = std::abs(double{got[i].logprob} - double{expected[i].logprob});
      EXPECT_LT(difference, 0.25) << "position " << i / per_position;
      sum += difference;
      ++count;
      for (size_t j = i + 1; j < i + per_position; ++j) {
        EXPECT_EQ(got[j].rank, static_cast<int>(j - i));
        if (j > i + 1) {
          EXPECT_LE(got[j].logprob, got[j - 1].logprob);
        }
      }
    }
    EXPECT_LT(sum / static_cast<double>(count), 0.04);
  };
  compare(cuda.logprobs[0], cpu.logprobs[0], 6);
  compare(cuda.prompt_logprobs, cpu.prompt_logprobs, 4);
}

TEST_P(CudaEngine, graphs_kernels_batches_and_one_step_at_a_time_are_equal_bit_for_bit) {
  const std::vector<Request> asked = requests(/*max_prompt=*/16);
  EngineConfig plain = config();
  plain.prefix_caching = false;
  StepCounter graphs, eager;
  std::vector<Answer> alone;
  {
    std::unique_ptr<Engine> engine = start(plain, &graphs);
    alone = run_alone(*engine, asked);
    for (const Answer& answer : alone) EXPECT_FALSE(answer.tokens[0].empty());
    expect_same(run_together(*engine, asked), alone, "batched with 23 others");
    expect_same(run_together(*engine, asked), alone, "batched again, all from graphs");
  }
  EXPECT_GT(graphs.num_graphs, 500);
  {
    EngineConfig enforced = plain;
    enforced.enforce_eager = true;
    std::unique_ptr<Engine> engine = start(enforced, &eager);
    expect_same(run_together(*engine, asked), alone, "eager");
    expect_same(run_alone(*engine, asked), alone, "eager and alone");
  }
  EXPECT_EQ(eager.num_graphs, 0);
  {
    const model::Weights weights = load();
    CudaWorkerLimits limits;
    limits.max_rows = plain.max_num_batched_tokens;
    limits.max_sequences = plain.max_num_seqs;
    limits.max_model_len = plain.max_model_len;
    limits.num_blocks = 200;
    limits.kv_dtype = cuda_activation(weights);
    limits.num_tokens = files_.config.vocab_size;
    ThreadPool pool(2);
    Result<std::unique_ptr<CudaWorker>> worker =
        CudaWorker::create(device_, ledger_, host_ledger_, pool, files_.config, weights, limits);
    ASSERT_TRUE(worker.has_value()) << worker.error().message;
    std::unique_ptr<Engine> engine =
        Engine::create_with_runner(std::make_unique<OneStepAtATime>(std::move(*worker)), plain,
                                   limits.num_blocks, files_.config.eos_tokens, nullptr);
    expect_same(run_together(*engine, asked), alone, "one step at a time");
  }
}

TEST_P(CudaEngine, long_prompts_are_equal_too_when_batches_must_not_matter) {
  const std::vector<Request> asked = requests(/*max_prompt=*/70);
  EngineConfig plain = invariant();
  plain.prefix_caching = false;
  std::vector<Answer> alone;
  {
    std::unique_ptr<Engine> engine = start(plain);
    alone = run_alone(*engine, asked);
    expect_same(run_together(*engine, asked), alone, "batched");
  }
  {
    EngineConfig chunked = plain;
    chunked.max_num_batched_tokens = 19;
    std::unique_ptr<Engine> engine = start(chunked);
    expect_same(run_together(*engine, asked), alone, "chunked");
  }
  {
    EngineConfig large = plain;
    large.max_num_batched_tokens = 512;
    std::unique_ptr<Engine> engine = start(large);
    expect_same(run_together(*engine, asked), alone, "in steps of more than 64 rows");
  }
  {
    std::unique_ptr<Engine> engine = start(invariant());
    run_together(*engine, asked);
    expect_same(run_together(*engine, asked), alone, "with prefix hits");
  }
  for (bool prefix_caching : {false, true}) {
    EngineConfig tight = plain;
    tight.prefix_caching = prefix_caching;
    tight.kv_cache_bytes = kv_bytes(17);
    std::unique_ptr<Engine> engine = start(tight);
    const std::vector<Answer> preempted = run_together(*engine, asked);
    expect_same(preempted, alone, "preempted");
    int num_preemptions = 0;
    for (const Answer& answer : preempted) num_preemptions += answer.num_preemptions;
    EXPECT_GT(num_preemptions, 0);
  }
}

TEST_P(CudaEngine, rules_hold_for_tokens_that_the_host_has_not_seen_yet) {
  std::unique_ptr<Engine> engine = start(config());
  const auto tokens = [&](const SamplingParams& sampling, int max_tokens) {
    Request request;
    request.prompt = {1, 2, 50};
    request.max_tokens = max_tokens;
    request.sampling = sampling;
    request.sampling.temperature = 0.0f;
    const Answer answer = run_one(*engine, request);
    return answer.tokens[0];
  };
  using Tokens = std::vector<int32_t>;
  SamplingParams twice;  // 20 whenever it may be, but never twice
  twice.ignore_eos = true;
  twice.logit_bias = {{20, 200.0f}, {21, 100.0f}};
  twice.bad_words = {{20, 20}};
  EXPECT_EQ(tokens(twice, 6), (Tokens{20, 21, 20, 21, 20, 21}));
  twice.bad_words = {{20, 20, 20}};
  EXPECT_EQ(tokens(twice, 7), (Tokens{20, 20, 21, 20, 20, 21, 20}));

  SamplingParams penalised;  // each token once, the prompt's 50 never
  penalised.ignore_eos = true;
  penalised.logit_bias = {{20, 600.0f}, {21, 500.0f}, {22, 400.0f}, {50, 1000.0f}};
  penalised.repetition_penalty = 100.0f;
  EXPECT_EQ(tokens(penalised, 3), (Tokens{20, 21, 22}));
  penalised = SamplingParams();  // 2 less for each time it came
  penalised.ignore_eos = true;
  penalised.allowed_tokens = {20, 21};
  penalised.logit_bias = {{20, 50.0f}};
  penalised.frequency_penalty = 2.0f;
  const Tokens falling = tokens(penalised, 100);
  EXPECT_EQ(falling.front(), 20);
  EXPECT_EQ(std::ranges::count(falling, 20) + std::ranges::count(falling, 21), 100);
  EXPECT_GT(std::ranges::count(falling, 21), 20);

  SamplingParams late;  // the model's end comes as soon as it may
  if (!files_.config.eos_tokens.empty()) {
    late.logit_bias = {{files_.config.eos_tokens[0], 500.0f}};
    late.min_tokens = 5;
    EXPECT_EQ(tokens(late, 20).size(), 6u);
  }
}

TEST_P(CudaEngine, lists_that_do_not_fit_at_once_are_cut_into_slices) {
  std::vector<Request> asked;
  for (int i = 0; i < 12; ++i) {
    Request request;
    request.prompt = {i, 2, 3};
    request.max_tokens = 10;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.ignore_eos = true;
    for (int32_t token = i; token < i + 40; ++token)
      request.sampling.allowed_tokens.push_back(token);
    request.sampling.num_logprobs = 1;
    asked.push_back(request);
  }
  std::unique_ptr<Engine> engine = start(config());
  const std::vector<Answer> alone = run_alone(*engine, asked);
  expect_same(run_together(*engine, asked), alone, "together");
  for (size_t i = 0; i < asked.size(); ++i) {
    for (int32_t token : alone[i].tokens[0]) {
      EXPECT_GE(token, static_cast<int32_t>(i));
      EXPECT_LT(token, static_cast<int32_t>(i) + 40);
    }
  }
}

TEST_P(CudaEngine, seeded_draws_repeat_and_others_differ) {
  std::unique_ptr<Engine> engine = start(config());
  Request request;
  request.prompt = {5, 6, 7, 8};
  request.max_tokens = 40;
  request.sampling.ignore_eos = true;
  request.sampling.seed = 11;
  const Answer first = run_one(*engine, request);
  EXPECT_EQ(run_one(*engine, request).tokens, first.tokens);
  request.sampling.seed = 12;
  EXPECT_NE(run_one(*engine, request).tokens, first.tokens);
}

TEST_P(CudaEngine, cancels_and_dropped_streams_leave_everybody_else_alone) {
  const std::vector<Request> asked = requests(/*max_prompt=*/16);
  std::unique_ptr<Engine> engine = start(config());
  const std::vector<Answer> alone = run_alone(*engine, asked);
  std::mt19937 random(1);
  for (int round = 0; round < 6; ++round) {
    std::vector<Stream> streams;
    for (const Request& request : asked) streams.push_back(std::move(*engine->submit(request)));
    std::vector<bool> is_dropped(asked.size());
    for (size_t i = 0; i < asked.size(); ++i) {
      if (random() % 3 > 0) continue;
      is_dropped[i] = true;
      if (random() % 2) streams[i].pop();
      streams[i] = Stream();
    }
    for (size_t i = 0; i < asked.size(); ++i) {
      if (is_dropped[i]) continue;
      EXPECT_EQ(read(streams[i], asked[i].num_choices).tokens, alone[i].tokens) << i;
    }
  }
  EXPECT_EQ(engine->gauges().running, 0);
  EXPECT_EQ(engine->gauges().free_blocks, engine->gauges().num_blocks);
}

TEST_P(CudaEngine, a_request_that_does_not_fit_the_device_is_refused_with_numbers) {
  model::Weights weights = load();
  CudaTarget target;
  target.device = &device_;
  target.limit = {ledger_.total() + 1000, "for a test"};
  target.host_ledger = &host_ledger_;
  const auto refused =
      Engine::create(ledger_, files_.config, std::move(weights), config(), 1, 0, nullptr, target);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
}

INSTANTIATE_TEST_SUITE_P(Models, CudaEngine,
                         testing::Values("llama", "qwen3", "qwen2_window", "llama_bias_tied"));

// Sizes of graphs need no device.
TEST(GraphCacheSizes, are_dense_where_padding_costs_and_end_at_the_limit) {
  EXPECT_EQ(GraphCache::sizes_up_to(0), std::vector<int64_t>{});
  EXPECT_EQ(GraphCache::sizes_up_to(1), std::vector<int64_t>{1});
  EXPECT_EQ(GraphCache::sizes_up_to(6), (std::vector<int64_t>{1, 2, 4, 6}));
  EXPECT_EQ(GraphCache::sizes_up_to(33), (std::vector<int64_t>{1, 2, 4, 8, 16, 24, 32, 33}));
  const std::vector<int64_t> all = GraphCache::sizes_up_to(256);
  EXPECT_EQ(all.size(), 23u);
  EXPECT_EQ(all.back(), 256);
  for (size_t i = 1; i < all.size(); ++i)
    EXPECT_LE(all[i] - all[i - 1], all[i - 1] < 8 ? 4 : all[i - 1] < 64 ? 8 : 16);
}

}  // namespace
}  // namespace donar::engine
