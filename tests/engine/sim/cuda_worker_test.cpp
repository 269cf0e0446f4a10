// CudaWorker on a simulated device, under a busy scheduler: its one copy, its block tables that
// only learn changes, its graphs, the ids that stay on the device, the lists that take turns in
// pinned memory. The device runs as late as it may, or at once; the tokens must be the fake
// model's.
#include "engine/cuda_worker.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/engine/scheduler_harness.h"
#include "tests/engine/sim/simulated_device.h"
#include "tests/engine/sim/simulated_model.h"

namespace donar::engine::test {
namespace {

using donar::test::simulated_device;
using donar::test::SimulatedDevice;

bool is_penalised(const Request& request) { return request.sampling.presence_penalty != 0.0f; }

int num_distinct(const std::vector<int32_t>& tokens) {
  return static_cast<int>(std::set<int32_t>(tokens.begin(), tokens.end()).size());
}

struct Expected {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
};

Expected expected_output(const Request& request, int choice) {
  const SamplingParams& sampling = request.sampling;
  std::vector<int32_t> all = request.prompt;
  Expected expected;
  while (static_cast<int>(expected.tokens.size()) < request.max_tokens) {
    const int num_output = static_cast<int>(expected.tokens.size());
    const uint64_t hash = hash_of(all);
    const int counted =
        is_penalised(request) ? 1000 * num_distinct(request.prompt) + num_output : -1;
    const int32_t token = simulated_token(sampling.temperature == 0.0f,
                                          *sampling.seed + static_cast<uint64_t>(choice), hash,
                                          num_output < sampling.min_tokens, counted);
    all.push_back(token);
    expected.tokens.push_back(token);
    expected.logprobs.push_back(simulated_logprob(hash));
    if (token == kFakeEos && !sampling.ignore_eos) break;
  }
  return expected;
}

struct Setting {
  bool runs_at_once;
  bool enforce_eager;
  int64_t num_blocks;
  int max_num_seqs;
  int max_num_batched_tokens;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) {
  return out << (setting.runs_at_once ? "at once" : "late")
             << (setting.enforce_eager ? ", eager, " : ", ") << setting.num_blocks << " blocks, "
             << setting.max_num_seqs << " sequences, " << setting.max_num_batched_tokens
             << " tokens";
}

class CudaWorkerTest : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override { simulated_device() = SimulatedDevice{}; }
  void TearDown() override {
    EXPECT_EQ(ledger_.total(), 0u) << ledger_.summary();
    EXPECT_EQ(host_ledger_.total(), 0u) << host_ledger_.summary();
    EXPECT_EQ(simulated_device().num_graphs, 0);
    EXPECT_EQ(simulated_device().num_events, 0);
  }

  static SchedulerConfig scheduler_config(const Setting& setting) {
    SchedulerConfig config = SchedulerHarness::config();
    config.max_model_len = std::min<int64_t>(setting.num_blocks * kv::kBlockTokens, 400);
    config.max_num_seqs = setting.max_num_seqs;
    config.max_num_batched_tokens = setting.max_num_batched_tokens;
    return config;
  }

  std::unique_ptr<CudaWorker> make_worker(const Setting& setting) {
    return make_worker(setting, ledger_);
  }
  std::unique_ptr<CudaWorker> make_worker(const Setting& setting, MemoryLedger& ledger) {
    simulated_device().runs_at_once = setting.runs_at_once;
    const SchedulerConfig config = scheduler_config(setting);
    CudaWorkerLimits limits;
    limits.max_rows = config.max_num_batched_tokens;
    limits.max_sequences = config.max_num_seqs;
    limits.max_model_len = config.max_model_len;
    limits.num_blocks = setting.num_blocks;
    limits.num_tokens = kSimulatedVocab;
    limits.enforce_eager = setting.enforce_eager;
    CudaDevice device;
    device.arch = 90;
    device.num_sms = 132;
    ThreadPool pool(1);
    Result<std::unique_ptr<CudaWorker>> worker =
        CudaWorker::create(device, ledger, host_ledger_, pool, config_, weights_, limits);
    EXPECT_TRUE(worker.has_value()) << (worker ? "" : worker.error().message);
    EXPECT_LE(ledger.total() - ledger.used(MemoryUse::kGraphs) - ledger.used(MemoryUse::kKv),
              CudaWorker::workspace_bytes(device, config_, weights_, limits));
    return std::move(*worker);
  }

  static Request random_request(std::mt19937& random, int64_t max_len) {
    const int prompt = 1 + static_cast<int>(random() % static_cast<uint32_t>(max_len / 2));
    Request request =
        fake_request(fake_prompt(static_cast<int32_t>(random() % 3), prompt),
                     static_cast<int>(random() % std::min<uint32_t>(
                                                     60, static_cast<uint32_t>(max_len - prompt))));
    SamplingParams& sampling = request.sampling;
    sampling.seed = random();
    request.num_choices = random() % 4 == 0 ? 1 + static_cast<int>(random() % 4) : 1;
    sampling.temperature = random() % 2 ? 1.0f : 0.0f;
    sampling.ignore_eos = random() % 2;
    sampling.min_tokens = random() % 4 ? 0 : std::min<int>(request.max_tokens, 8);
    sampling.presence_penalty = random() % 6 ? 0.0f : 0.5f;
    sampling.num_logprobs = random() % 5 ? -1 : 2;
    sampling.num_prompt_logprobs = random() % 6 ? -1 : 1;
    if (request.num_choices == 1 && random() % 4 == 0) {
      // Lists that tell whose they are; two or three fill a slice.
      for (int32_t i = 0; i < 30; ++i)
        sampling.allowed_tokens.push_back(static_cast<int32_t>(*sampling.seed % 20) + i);
    }
    if (request.num_choices == 1 && random() % 5 == 0)
      sampling.logit_bias = {{1, static_cast<float>(*sampling.seed % 100)}};
    return request;
  }

  static void expect_whole(const Submitted& submitted) {
    ASSERT_TRUE(submitted.is_done);
    const Request& request = submitted.request;
    for (size_t choice = 0; choice < submitted.choices.size(); ++choice) {
      const Expected expected = expected_output(request, static_cast<int>(choice));
      const ChoiceOutput& got = submitted.choices[choice];
      ASSERT_EQ(got.tokens, expected.tokens) << "choice " << choice;
      if (request.sampling.num_logprobs < 0) continue;
      ASSERT_EQ(got.logprobs.size(), expected.logprobs.size());
      for (size_t i = 0; i < got.logprobs.size(); ++i) {
        EXPECT_EQ(got.logprobs[i][0].token, expected.tokens[i]);
        EXPECT_EQ(got.logprobs[i][0].logprob, expected.logprobs[i]);
        EXPECT_EQ(got.logprobs[i].size(), 3u);
      }
    }
    const bool is_scored = request.sampling.num_prompt_logprobs >= 0;
    ASSERT_EQ(submitted.prompt_logprobs.size(), is_scored ? request.prompt.size() : 0);
    for (size_t i = 1; i < submitted.prompt_logprobs.size(); ++i) {
      ASSERT_EQ(submitted.prompt_logprobs[i].size(), 2u);
      EXPECT_EQ(submitted.prompt_logprobs[i][0].token, request.prompt[i]);
      EXPECT_EQ(submitted.prompt_logprobs[i][0].logprob,
                simulated_logprob(hash_of(std::span(request.prompt).first(i))));
    }
  }

  const model::ModelConfig config_ = simulated_config();
  const model::Weights weights_{};
  MemoryLedger host_ledger_;
  MemoryLedger ledger_{0, MemorySpace::kCuda};
};

TEST_P(CudaWorkerTest, random_requests_get_their_tokens_and_logprobs) {
  const Setting setting = GetParam();
  int num_graph_steps = 0, num_preemptions = 0;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const std::unique_ptr<CudaWorker> worker = make_worker(setting);
    SchedulerHarness harness(scheduler_config(setting), setting.num_blocks);
    harness.run_on(*worker);
    std::vector<bool> is_disturbed;
    for (int turn = 0; turn < 500 || harness.has_work(); ++turn) {
      ASSERT_LT(turn, 50000) << "no end in sight";
      if (turn < 500 && random() % 5 == 0) {
        harness.add(random_request(random, scheduler_config(setting).max_model_len));
        is_disturbed.push_back(false);
      }
      if (!harness.requests.empty() && random() % 30 == 0) {
        const size_t victim = random() % harness.requests.size();
        is_disturbed[victim] = is_disturbed[victim] || !harness.requests[victim]->is_done;
        harness.requests[victim]->stream->cancel(FinishReason::kAbort);
      }
      if (!harness.has_work() && random() % 2) worker->use_idle_moment();
      harness.step();
      num_preemptions += harness.num_preemptions;
    }
    for (size_t i = 0; i < harness.requests.size(); ++i) {
      SCOPED_TRACE(i);
      if (!is_disturbed[i]) expect_whole(*harness.requests[i]);
    }
    num_graph_steps += simulated_device().num_replays;
    EXPECT_EQ(static_cast<uint64_t>(simulated_device().num_graphs) * simulated_device().graph_bytes,
              ledger_.used(MemoryUse::kGraphs));
  }
  EXPECT_EQ(num_graph_steps > 300, !setting.enforce_eager) << num_graph_steps;
  if (setting.num_blocks < 40) {
    EXPECT_GT(num_preemptions, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, CudaWorkerTest,
                         testing::Values(Setting{false, false, 200, 16, 64},
                                         Setting{true, false, 200, 16, 64},
                                         Setting{false, true, 200, 16, 64},
                                         Setting{false, false, 30, 6, 40},
                                         Setting{false, false, 400, 80, 300}));

class CudaWorkerOnce : public CudaWorkerTest {};
INSTANTIATE_TEST_SUITE_P(One, CudaWorkerOnce, testing::Values(Setting{false, false, 200, 16, 64}));

TEST_P(CudaWorkerOnce, graphs_are_captured_while_idle_until_all_sizes_have_theirs) {
  const std::unique_ptr<CudaWorker> worker = make_worker(GetParam());
  EXPECT_GE(simulated_device().num_graphs, 1);  // of one row, before the engine is ready
  int num_moments = 0;
  while (worker->use_idle_moment()) ASSERT_LT(++num_moments, 100);
  // 1, 2, 4, 8, 16 rows, greedy and with draws.
  EXPECT_EQ(simulated_device().num_graphs, 10);
}

TEST_P(CudaWorkerOnce, without_memory_for_graphs_steps_stay_eager_and_right) {
  const uint64_t graph_bytes = simulated_device().graph_bytes;
  uint64_t others = 0;
  {
    const std::unique_ptr<CudaWorker> worker = make_worker(GetParam());
    others = ledger_.total() - ledger_.used(MemoryUse::kGraphs);
  }
  MemoryLedger tight(others + 3 * graph_bytes + graph_bytes / 2, MemorySpace::kCuda);
  {
    const std::unique_ptr<CudaWorker> worker = make_worker(GetParam(), tight);
    while (worker->use_idle_moment()) ASSERT_LE(simulated_device().num_graphs, 3);
    EXPECT_EQ(simulated_device().num_graphs, 3);
    EXPECT_EQ(tight.used(MemoryUse::kGraphs), 3 * graph_bytes);
    SchedulerHarness harness(scheduler_config(GetParam()), GetParam().num_blocks);
    harness.run_on(*worker);
    for (int i = 0; i < 12; ++i) harness.add(fake_request(fake_prompt(i, 5 + i), 30));
    harness.run_until_idle();
    for (size_t i = 0; i < 12; ++i) harness.expect_complete(i);
    EXPECT_EQ(simulated_device().num_graphs, 3);
  }
  EXPECT_EQ(tight.total(), 0u);
}

TEST_P(CudaWorkerOnce, without_memory_on_the_device_for_graphs_steps_stay_eager_too) {
  simulated_device().free_bytes = simulated_device().graph_bytes * 7 / 2;
  const std::unique_ptr<CudaWorker> worker = make_worker(GetParam());
  int num_moments = 0;
  while (worker->use_idle_moment()) ASSERT_LT(++num_moments, 100);
  EXPECT_EQ(simulated_device().num_graphs, 3);
  EXPECT_EQ(ledger_.used(MemoryUse::kGraphs), 3 * simulated_device().graph_bytes);
  SchedulerHarness harness(scheduler_config(GetParam()), GetParam().num_blocks);
  harness.run_on(*worker);
  for (int i = 0; i < 12; ++i) harness.add(fake_request(fake_prompt(i, 5 + i), 30));
  harness.run_until_idle();
  for (size_t i = 0; i < 12; ++i) harness.expect_complete(i);
}

TEST_P(CudaWorkerOnce, a_broken_device_throws_where_its_result_is_wanted) {
  const std::unique_ptr<CudaWorker> worker = make_worker(GetParam());
  SchedulerHarness harness(scheduler_config(GetParam()), GetParam().num_blocks);
  harness.add(fake_request(fake_prompt(1, 20), 5));
  const StepPlan& plan = harness.scheduler.schedule();
  ASSERT_TRUE(worker->launch(plan).has_value());
  simulated_device().is_broken = true;
  EXPECT_THROW(static_cast<void>(worker->collect()), CudaError);
  harness.take(harness.scheduler.abort_all(FinishReason::kError,
                                           Error{ErrorCode::kInternal, "device lost", {}}));
}

TEST(PinnedScratch, waits_before_it_hands_out_a_place_again) {
  simulated_device() = SimulatedDevice{};
  CudaDevice device;
  const CudaStream stream = CudaStream::create(device);
  MemoryLedger ledger;
  PinnedScratch scratch(std::move(*Buffer::allocate_pinned(ledger, MemoryUse::kStaging, 64)));
  std::vector<int32_t> values(100);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i);
  std::vector<int32_t> seen;
  const auto read = [&](const int32_t* piece, int64_t count) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece) % 16, 0u);
    donar::test::put_into_stream(
        stream.handle(), [&seen, piece, count] { seen.insert(seen.end(), piece, piece + count); });
  };
  scratch.for_pieces(std::span<const int32_t>(values).first(3), stream.handle(), read);
  scratch.for_pieces(std::span<const int32_t>(values).subspan(3), stream.handle(), read);
  stream.wait();
  EXPECT_EQ(seen, values);
}

}  // namespace
}  // namespace donar::engine::test
