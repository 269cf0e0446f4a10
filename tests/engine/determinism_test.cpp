// The real model behind the engine: its greedy tokens are the reference's, and a request gives the
// same tokens and the same logprobs, bit for bit, alone or batched, chunked or whole, with and
// without a prefix hit or a preemption, on any number of threads.
#include <gtest/gtest.h>

#include <random>

#include "engine/engine.h"
#include "model/decoder.h"
#include "model/model.h"
#include "tests/model/test_files.h"

namespace donar::engine {
namespace {

namespace fs = std::filesystem;

Result<model::Weights> load_weights(MemoryLedger& ledger, const model::ModelFiles& files,
                                    const model::LoadOptions& options) {
  MemoryLedger scratch_ledger;
  Result<Buffer> scratch = Buffer::allocate(scratch_ledger, MemoryUse::kStaging, 16 << 20);
  if (!scratch) return forward_error(scratch);
  Arena arena(std::move(*scratch));
  ThreadPool pool(1);
  Exec exec{DeviceType::kCpu, detect_cpu_isa(), &pool, &arena};
  return model::load_weights(exec, ledger, files, options);
}

struct Answer {
  std::vector<std::vector<int32_t>> tokens;  // per choice
  std::vector<std::vector<float>> logprobs;  // per choice: of the chosen tokens and the best ones
  std::vector<std::vector<float>> prompt_logprobs;
  int cached_tokens = 0;
  int num_preemptions = 0;
};

class Determinism : public testing::TestWithParam<const char*> {
 protected:
  struct Options {
    EngineConfig config;
    int threads = 2;
    std::optional<DType> dtype;
  };

  static Options options() {
    Options options;
    options.config.max_num_seqs = 16;
    options.config.max_num_batched_tokens = 512;
    options.config.max_model_len = 128;
    options.config.kv_cache_bytes = 4 << 20;
    return options;
  }

  std::unique_ptr<Engine> start(const Options& options) {
    const fs::path path = model::test::tiny(GetParam());
    Result<model::ModelFiles> files = model::open_model(path);
    EXPECT_TRUE(files.has_value());
    model::LoadOptions load;
    load.dtype = options.dtype;
    Result<model::Weights> weights = load_weights(ledger_, *files, load);
    EXPECT_TRUE(weights.has_value()) << (weights ? "" : weights.error().message);
    Result<std::unique_ptr<Engine>> engine =
        Engine::create(ledger_, files->config, std::move(*weights), options.config, options.threads,
                       /*tokenizer_vocab=*/0, nullptr);
    EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message);
    return std::move(*engine);
  }

  // Bytes of KV cache that hold `num_blocks` blocks.
  int64_t kv_bytes(int64_t num_blocks) const {
    const Result<model::ModelFiles> files = model::open_model(model::test::tiny(GetParam()));
    return num_blocks * static_cast<int64_t>(kv::KvStore::bytes_per_block(
                            model::Decoder::kv_layers(files->config, DType::kBF16)));
  }

  static std::vector<float> values_of(const PositionLogprobs& position) {
    std::vector<float> values;
    for (const TokenLogprob& entry : position) values.push_back(entry.logprob);
    return values;
  }

  static Answer read(Stream& stream, int num_choices) {
    Answer answer;
    answer.tokens.resize(static_cast<size_t>(num_choices));
    answer.logprobs.resize(static_cast<size_t>(num_choices));
    while (std::optional<TokenEvent> event = stream.pop()) {
      EXPECT_FALSE(event->error) << event->error->message;
      const auto choice = static_cast<size_t>(event->choice);
      for (int32_t token : event->tokens) answer.tokens[choice].push_back(token);
      for (const PositionLogprobs& position : event->logprobs) {
        for (float value : values_of(position)) answer.logprobs[choice].push_back(value);
      }
      for (const PositionLogprobs& position : event->prompt_logprobs)
        answer.prompt_logprobs.push_back(values_of(position));
    }
    answer.cached_tokens = stream.timing().cached_tokens;
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

  static std::vector<Answer> run_alone(Engine& engine, const std::vector<Request>& requests) {
    std::vector<Answer> answers;
    for (const Request& request : requests) answers.push_back(run_together(engine, {request})[0]);
    return answers;
  }

  // Sixteen of every kind: greedy and seeded, short and long, with penalties, logprobs, limits and
  // choices.
  static std::vector<Request> requests() {
    std::mt19937 random(7);
    std::vector<Request> requests;
    for (int i = 0; i < 16; ++i) {
      Request request;
      const int length = 1 + static_cast<int>(random() % 70);
      for (int j = 0; j < length; ++j)
        request.prompt.push_back(static_cast<int32_t>(random() % 60));
      request.max_tokens = 20 + static_cast<int>(random() % 30);
      request.sampling.temperature = i % 2 ? 0.9f : 0.0f;
      request.sampling.seed = static_cast<uint64_t>(100 + i);
      request.sampling.ignore_eos = i % 3 != 0;
      if (i % 4 == 1) request.sampling.top_p = 0.8f;
      if (i % 8 == 3) request.sampling.top_k = 10;
      if (i % 8 == 7) request.sampling.min_p = 0.1f;
      if (i % 5 == 0) request.sampling.presence_penalty = 0.5f;
      if (i % 6 == 0) request.sampling.repetition_penalty = 1.2f;
      request.sampling.num_logprobs = 3;
      if (i % 7 == 2) request.sampling.num_prompt_logprobs = 2;
      if (i == 5) request.num_choices = 3;
      requests.push_back(std::move(request));
    }
    return requests;
  }

  static void expect_same(const std::vector<Answer>& got, const std::vector<Answer>& expected,
                          const char* what) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, expected[i].tokens) << what << ", request " << i;
      EXPECT_EQ(got[i].logprobs, expected[i].logprobs) << what << ", request " << i;
      EXPECT_EQ(got[i].prompt_logprobs, expected[i].prompt_logprobs) << what << ", request " << i;
    }
  }

  MemoryLedger ledger_;
};

TEST_P(Determinism, greedy_tokens_are_those_of_the_reference) {
  Options exact = options();
  exact.dtype = DType::kF32;
  exact.config.kv_dtype = DType::kF32;
  std::unique_ptr<Engine> engine = start(exact);
  const model::Checkpoint golden =
      model::test::open_golden(model::test::tiny(GetParam()) / "logits.safetensors");
  Request request;
  for (int64_t id : model::test::read_tensor<int64_t>(golden, "input_ids"))
    request.prompt.push_back(static_cast<int32_t>(id));
  std::vector<int32_t> expected;
  for (int64_t id : model::test::read_tensor<int64_t>(golden, "greedy"))
    expected.push_back(static_cast<int32_t>(id));
  request.max_tokens = static_cast<int>(expected.size());
  request.sampling.temperature = 0.0f;
  request.sampling.ignore_eos = true;
  EXPECT_EQ(run_together(*engine, {request})[0].tokens[0], expected);
}

TEST_P(Determinism, alone_batched_chunked_preempted_and_cached_are_equal_bit_for_bit) {
  const std::vector<Request> asked = requests();
  Options plain = options();
  plain.config.prefix_caching = false;
  std::vector<Answer> alone;
  {
    std::unique_ptr<Engine> engine = start(plain);
    alone = run_alone(*engine, asked);
    for (size_t i = 0; i < asked.size(); ++i) EXPECT_FALSE(alone[i].tokens[0].empty());
    expect_same(run_together(*engine, asked), alone, "batched with 15 others");
  }
  {
    Options chunked = plain;
    chunked.config.max_num_batched_tokens = 19;
    std::unique_ptr<Engine> engine = start(chunked);
    expect_same(run_together(*engine, asked), alone, "chunked");
  }
  {
    Options one_thread = plain;
    one_thread.threads = 1;
    std::unique_ptr<Engine> engine = start(one_thread);
    expect_same(run_together(*engine, asked), alone, "one thread");
  }
  {
    std::unique_ptr<Engine> engine = start(options());
    run_together(*engine, asked);
    const std::vector<Answer> cached = run_together(*engine, asked);
    expect_same(cached, alone, "with prefix hits");
    int num_cached = 0;
    for (const Answer& answer : cached) num_cached += answer.cached_tokens;
    EXPECT_GT(num_cached, 100);
  }
  for (bool prefix_caching : {false, true}) {
    Options tight = plain;
    tight.config.prefix_caching = prefix_caching;
    tight.config.kv_cache_bytes = kv_bytes(17);
    std::unique_ptr<Engine> engine = start(tight);
    const std::vector<Answer> preempted = run_together(*engine, asked);
    expect_same(preempted, alone, "preempted");
    int num_preemptions = 0;
    for (const Answer& answer : preempted) num_preemptions += answer.num_preemptions;
    EXPECT_GT(num_preemptions, 0);
  }
}

TEST_P(Determinism, every_byte_comes_home) {
  {
    std::unique_ptr<Engine> engine = start(options());
    EXPECT_GT(ledger_.used(MemoryUse::kWeights), 0u);
    EXPECT_GT(ledger_.used(MemoryUse::kKv), 3u << 20);
    EXPECT_GT(ledger_.used(MemoryUse::kWorkspace), 0u);
    Result<Stream> stream = engine->submit(requests()[0]);
    ASSERT_TRUE(stream->pop());
  }
  EXPECT_EQ(ledger_.total(), 0u) << ledger_.summary();
}

TEST_P(Determinism, tokens_beyond_the_vocabulary_are_refused) {
  std::unique_ptr<Engine> engine = start(options());
  Request request;
  request.prompt = {61};
  const Result<Stream> refused = engine->submit(request);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().param, "prompt");
}

INSTANTIATE_TEST_SUITE_P(Models, Determinism, testing::Values("llama", "qwen3", "qwen2_window"));

TEST(EngineCreate, refuses_a_configuration_that_cannot_work) {
  Result<model::ModelFiles> files = model::open_model(model::test::tiny("llama"));
  ASSERT_TRUE(files.has_value());
  const auto refusal = [&](const EngineConfig& config, int threads = 1) {
    MemoryLedger ledger;
    const auto engine =
        Engine::create(ledger, files->config, model::Weights{}, config, threads, 0, nullptr);
    EXPECT_FALSE(engine.has_value());
    return engine ? Error{} : engine.error();
  };
  EngineConfig config;
  config.max_model_len = 512;
  config.kv_cache_bytes = 1000;
  EXPECT_EQ(refusal(config).code, ErrorCode::kResourceExhausted);
  config = EngineConfig();
  config.max_num_batched_tokens = 8;
  config.max_num_seqs = 9;
  EXPECT_EQ(refusal(config).param, "max_num_batched_tokens");
  config = EngineConfig();
  config.max_num_seqs = -1;
  EXPECT_EQ(refusal(config).param, "max_num_seqs");
  config = EngineConfig();
  config.max_model_len = 513;
  EXPECT_EQ(refusal(config).param, "max_model_len");
  EXPECT_EQ(refusal(EngineConfig(), 0).param, "threads");
}

TEST(EngineCreate, what_is_not_given_follows_the_device_and_what_is) {
  EngineConfig config = with_defaults({}, DeviceType::kCpu);
  EXPECT_EQ(config.max_num_seqs, 32);
  EXPECT_EQ(config.max_num_batched_tokens, 256);
  config = with_defaults({}, DeviceType::kCuda);
  EXPECT_EQ(config.max_num_seqs, 256);
  EXPECT_EQ(config.max_num_batched_tokens, 2048);
  EngineConfig asked;
  asked.max_num_batched_tokens = 100;
  EXPECT_EQ(with_defaults(asked, DeviceType::kCuda).max_num_seqs, 100);
  asked = EngineConfig();
  asked.max_num_seqs = 300;
  EXPECT_EQ(with_defaults(asked, DeviceType::kCpu).max_num_batched_tokens, 300);
}

TEST(EngineCreate, with_too_little_memory_it_refuses_and_gives_back_what_it_had_taken) {
  Result<model::ModelFiles> files = model::open_model(model::test::tiny("llama"));
  ASSERT_TRUE(files.has_value());
  model::LoadOptions dummy;
  dummy.load_format = model::LoadFormat::kDummy;
  int num_refused = 0;
  bool is_created = false;
  for (uint64_t limit = 200'000; !is_created && limit < 200'000'000; limit += 150'000) {
    MemoryLedger ledger(limit);
    Result<model::Weights> weights = load_weights(ledger, *files, dummy);
    if (!weights) continue;
    EngineConfig config;
    config.max_model_len = 64;
    const auto engine =
        Engine::create(ledger, files->config, std::move(*weights), config, 1, 0, nullptr);
    is_created = engine.has_value();
    if (is_created) continue;
    ++num_refused;
    EXPECT_EQ(engine.error().code, ErrorCode::kResourceExhausted);
    EXPECT_EQ(ledger.total(), 0u) << "with " << limit;
  }
  EXPECT_TRUE(is_created);
  EXPECT_GT(num_refused, 0);
}

}  // namespace
}  // namespace donar::engine
