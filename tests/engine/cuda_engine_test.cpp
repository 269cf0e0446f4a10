// The engine on a CUDA device: its greedy tokens are the CPU's, and a request gives the same tokens
// and logprobs, bit for bit, from graphs and kernel by kernel, alone and batched, with a step in
// flight and without.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/engine/cuda_engine_fixture.h"

namespace donar::engine {
namespace {

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

}  // namespace
}  // namespace donar::engine
