// The engine's life with a fake model: many submitters, cancels, dropped streams, drains, failures,
// a full inbox.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "tests/engine/fake_runner.h"

namespace donar::engine::test {
namespace {

using std::chrono::milliseconds;

// Holds the model's steps back until the test lets them go.
class Gate {
 public:
  void open(int steps = 1 << 30) {
    std::lock_guard lock(mutex_);
    allowed_ += steps;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return allowed_ > 0; });
    --allowed_;
  }
  void wait_for_arrivals(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int allowed_ = 0, arrived_ = 0;
};

class CountingListener : public StatsListener {
 public:
  void on_step(const StepStats& step) override {
    std::lock_guard lock(mutex);
    prompt_tokens += step.prompt_tokens;
    generated_tokens += step.generated_tokens;
    last_gauges = step.gauges;
  }
  void on_first_token(double seconds) override {
    std::lock_guard lock(mutex);
    first_tokens += seconds >= 0.0;
  }
  void on_inter_token(double seconds) override {
    std::lock_guard lock(mutex);
    inter_tokens += seconds >= 0.0;
  }
  void on_finish(const RequestTiming& timing, FinishReason reason,
                 const Request& request) override {
    std::lock_guard lock(mutex);
    ++finished[reason];
    EXPECT_EQ(timing.prompt_tokens, static_cast<int>(request.prompt.size()));
  }

  std::mutex mutex;
  int prompt_tokens = 0, generated_tokens = 0, first_tokens = 0, inter_tokens = 0;
  EngineGauges last_gauges;
  std::map<FinishReason, int> finished;
};

constexpr int64_t kNumBlocks = 64;

EngineConfig small_config() {
  EngineConfig config;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 64;
  return config;
}

std::unique_ptr<Engine> make_engine(const EngineConfig& config, StatsListener* listener = nullptr,
                                    std::function<Result<void>(const StepPlan&)> before_step = {},
                                    int depth = 0) {
  auto runner = std::make_unique<FakeRunner>(kNumBlocks, depth);
  runner->before_step = std::move(before_step);
  return Engine::create_with_runner(std::move(runner), config, kNumBlocks, {kFakeEos}, listener);
}

std::function<Result<void>(const StepPlan&)> through(Gate& gate) {
  return [&gate](const StepPlan&) -> Result<void> {
    gate.pass();
    return {};
  };
}

Request endless(int32_t first, int max_tokens = 500) {
  Request request = fake_request(fake_prompt(first, 20), max_tokens);
  request.sampling.ignore_eos = true;
  return request;
}

std::vector<int32_t> read_all(Stream& stream, FinishReason* finish = nullptr,
                              TokenEvent* last = nullptr) {
  std::vector<int32_t> tokens;
  while (std::optional<TokenEvent> event = stream.pop()) {
    tokens.insert(tokens.end(), event->tokens.begin(), event->tokens.end());
    if (finish) *finish = event->finish;
    if (last) *last = *event;
  }
  return tokens;
}

class EngineAtDepth : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depths, EngineAtDepth, testing::Values(0, 1));

TEST_P(EngineAtDepth, many_threads_get_what_they_asked_for) {
  CountingListener listener;
  std::unique_ptr<Engine> engine = make_engine(small_config(), &listener, {}, GetParam());
  std::vector<std::thread> clients;
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&engine, client] {
      for (int i = 0; i < 20; ++i) {
        Request request = fake_request(fake_prompt(client * 20 + i, 5 + i * 3), 1 + (i * 7) % 40);
        request.sampling.temperature = 1.0f;
        request.sampling.seed = static_cast<uint64_t>(client * 100 + i);
        Result<Stream> stream = engine->submit(request);
        ASSERT_TRUE(stream.has_value());
        EXPECT_EQ(read_all(*stream), fake_output(request, 0));
        EXPECT_EQ(stream->timing().prompt_tokens, static_cast<int>(request.prompt.size()));
        EXPECT_LE(stream->timing().arrived, stream->timing().scheduled);
        EXPECT_LE(stream->timing().first_token, stream->timing().last_token);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(engine->gauges().running, 0);
  EXPECT_EQ(engine->gauges().free_blocks, kNumBlocks);
  engine->shutdown(milliseconds(0));
  EXPECT_EQ(listener.finished[FinishReason::kStop] + listener.finished[FinishReason::kLength], 160);
  EXPECT_EQ(listener.first_tokens, 160);
  EXPECT_EQ(listener.inter_tokens, listener.generated_tokens - 160);
  EXPECT_EQ(listener.last_gauges.free_blocks, kNumBlocks);
}

TEST_P(EngineAtDepth, choices_arrive_on_one_stream) {
  std::unique_ptr<Engine> engine = make_engine(small_config(), nullptr, {}, GetParam());
  Request request = endless(1, 30);
  request.num_choices = 3;
  request.sampling.temperature = 1.0f;
  request.sampling.seed = 9;
  Result<Stream> stream = engine->submit(request);
  ASSERT_TRUE(stream.has_value());
  std::vector<std::vector<int32_t>> tokens(3);
  while (std::optional<TokenEvent> event = stream->pop()) {
    std::vector<int32_t>& choice = tokens.at(static_cast<size_t>(event->choice));
    choice.insert(choice.end(), event->tokens.begin(), event->tokens.end());
  }
  for (int choice = 0; choice < 3; ++choice)
    EXPECT_EQ(tokens[static_cast<size_t>(choice)], fake_output(request, choice));
}

TEST(Engine, a_dropped_stream_gives_its_blocks_back_within_one_step) {
  Gate gate;
  CountingListener listener;
  std::unique_ptr<Engine> engine = make_engine(small_config(), &listener, through(gate));
  Result<Stream> kept = engine->submit(endless(1, 40));
  {
    Result<Stream> dropped = engine->submit(endless(2));
    gate.open(3);
    gate.wait_for_arrivals(4);  // the fourth step is under way
    ASSERT_TRUE(dropped->pop());
  }
  gate.open(1);
  gate.wait_for_arrivals(5);  // the fourth is committed, the fifth planned without the dropped one
  {
    std::lock_guard lock(listener.mutex);
    EXPECT_EQ(listener.finished[FinishReason::kAbort], 1);
  }
  gate.open();
  EXPECT_EQ(read_all(*kept).size(), 40u);
  EXPECT_EQ(engine->gauges().free_blocks, kNumBlocks);
}

TEST(Engine, a_stop_string_that_was_found_ends_with_stop) {
  Gate gate;
  std::unique_ptr<Engine> engine = make_engine(small_config(), nullptr, through(gate));
  Result<Stream> stream = engine->submit(endless(1, 900));
  gate.open(1);
  ASSERT_TRUE(stream->pop());
  stream->cancel(FinishReason::kStop);
  gate.open(1);  // for the step that may have begun
  FinishReason finish = FinishReason::kNone;
  EXPECT_LE(read_all(*stream, &finish).size(), 1u);
  EXPECT_EQ(finish, FinishReason::kStop);
  EXPECT_EQ(engine->gauges().free_blocks, kNumBlocks);
}

TEST(Engine, a_request_cancelled_at_once_ends_at_once_although_the_engine_was_idle) {
  for (int i = 0; i < 20; ++i) {
    Gate gate;
    std::unique_ptr<Engine> engine = make_engine(small_config(), nullptr, through(gate));
    Result<Stream> stream = engine->submit(endless(i, 900));
    ASSERT_TRUE(stream.has_value());
    stream->cancel(FinishReason::kAbort);
    gate.open(1);
    EXPECT_LE(read_all(*stream).size(), 1u);
    EXPECT_EQ(engine->gauges().running, 0);
  }
}

TEST(Engine, a_full_inbox_refuses_and_takes_again_when_requests_start) {
  Gate gate;
  EngineConfig config = small_config();
  config.max_waiting = 3;
  config.max_num_seqs = 1;
  std::unique_ptr<Engine> engine = make_engine(config, nullptr, through(gate));
  std::vector<Stream> streams;
  streams.push_back(std::move(*engine->submit(endless(0, 2))));
  gate.wait_for_arrivals(1);  // it has started and takes no place in the queue
  for (int i = 1; i <= 3; ++i) {
    Result<Stream> stream = engine->submit(endless(i, 2));
    ASSERT_TRUE(stream.has_value()) << i;
    streams.push_back(std::move(*stream));
  }
  const Result<Stream> refused = engine->submit(endless(9, 2));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  gate.open();
  for (Stream& stream : streams) EXPECT_EQ(read_all(stream).size(), 2u);
  EXPECT_TRUE(engine->submit(endless(9, 2)).has_value());
}

TEST(Engine, cancelled_waiting_requests_free_their_places) {
  Gate gate;
  EngineConfig config = small_config();
  config.max_waiting = 2;
  config.max_num_seqs = 1;
  std::unique_ptr<Engine> engine = make_engine(config, nullptr, through(gate));
  Result<Stream> running = engine->submit(endless(0, 5));
  gate.wait_for_arrivals(1);
  {
    Result<Stream> a = engine->submit(endless(1)), b = engine->submit(endless(2));
    ASSERT_TRUE(a.has_value() && b.has_value());
  }
  EXPECT_FALSE(engine->submit(endless(3)).has_value());
  gate.open(1);
  gate.wait_for_arrivals(2);
  EXPECT_TRUE(engine->submit(endless(3)).has_value());
  gate.open();
  read_all(*running);
}

TEST(Engine, what_can_never_fit_is_refused_with_the_field) {
  EngineConfig config = small_config();
  config.max_model_len = 100;
  std::unique_ptr<Engine> engine = make_engine(config);
  EXPECT_EQ(engine->max_model_len(), 100);
  const Result<Stream> refused = engine->submit(endless(1, 81));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().param, "max_tokens");
  std::unique_ptr<Engine> by_blocks = make_engine(small_config());
  EXPECT_EQ(by_blocks->max_model_len(), kNumBlocks * 16);
}

TEST_P(EngineAtDepth, a_runner_error_ends_all_streams_and_the_engine_is_unhealthy) {
  Gate gate;
  CountingListener listener;
  int steps = 0;
  EngineConfig config = small_config();
  config.max_num_seqs = 2;
  std::unique_ptr<Engine> engine = make_engine(
      config, &listener,
      [&](const StepPlan&) -> Result<void> {
        gate.pass();
        if (++steps == 3) return fail(ErrorCode::kInternal, "the device fell off the bus");
        return {};
      },
      GetParam());
  EXPECT_TRUE(engine->healthy());
  std::vector<Stream> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(std::move(*engine->submit(endless(i))));
  gate.open();
  for (Stream& stream : streams) {
    TokenEvent last;
    read_all(stream, nullptr, &last);
    EXPECT_EQ(last.finish, FinishReason::kError);
    ASSERT_TRUE(last.error);
    EXPECT_EQ(last.error->message, "the device fell off the bus");
  }
  EXPECT_FALSE(engine->healthy());
  const Result<Stream> refused = engine->submit(endless(9));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(engine->gauges().free_blocks, kNumBlocks);
  EXPECT_EQ(listener.finished[FinishReason::kError], 4);
  engine->shutdown(milliseconds(1000));
}

TEST(Engine, tells_of_its_failure_once_whenever_it_was_asked_to) {
  Gate gate;
  std::unique_ptr<Engine> engine =
      make_engine(small_config(), nullptr, [&](const StepPlan&) -> Result<void> {
        gate.pass();
        return fail(ErrorCode::kInternal, "the device fell off the bus");
      });
  int taken_back = 0;
  std::promise<bool> told;
  engine->notify_failure([&] { ++taken_back; });
  engine->notify_failure([&] { told.set_value(engine->healthy()); });  // twice would throw
  Result<Stream> stream = engine->submit(endless(1));
  gate.open();
  EXPECT_FALSE(told.get_future().get());
  // Its streams have ended by then.
  TokenEvent last;
  read_all(*stream, nullptr, &last);
  EXPECT_EQ(last.finish, FinishReason::kError);
  EXPECT_EQ(taken_back, 0);

  bool told_late = false;
  engine->notify_failure([&] { told_late = true; });
  EXPECT_TRUE(told_late);
  engine->notify_failure({});
  engine->shutdown(milliseconds(1000));
}

TEST(Engine, a_shutdown_is_no_failure) {
  std::unique_ptr<Engine> engine = make_engine(small_config());
  bool told = false;
  engine->notify_failure([&] { told = true; });
  engine->shutdown(milliseconds(0));
  engine->notify_failure([&] { told = true; });
  EXPECT_FALSE(told);
}

TEST(Engine, an_exception_of_the_runner_is_an_error_too) {
  std::unique_ptr<Engine> engine = make_engine(
      small_config(), nullptr, [](const StepPlan&) -> Result<void> { throw std::bad_alloc(); });
  Result<Stream> stream = engine->submit(endless(1));
  FinishReason finish = FinishReason::kNone;
  read_all(*stream, &finish);
  EXPECT_EQ(finish, FinishReason::kError);
  EXPECT_FALSE(engine->healthy());
}

TEST_P(EngineAtDepth, shutdown_with_time_lets_everything_finish_and_refuses_what_comes) {
  Gate gate;
  std::unique_ptr<Engine> engine = make_engine(small_config(), nullptr, through(gate), GetParam());
  std::vector<Stream> streams;
  for (int i = 0; i < 12; ++i) streams.push_back(std::move(*engine->submit(endless(i, 30))));
  gate.wait_for_arrivals(1);
  std::future<void> stopped =
      std::async(std::launch::async, [&] { engine->shutdown(std::chrono::hours(24 * 30)); });
  Result<Stream> refused = engine->submit(endless(1));
  while (refused.has_value() || refused.error().code == ErrorCode::kResourceExhausted) {
    refused = engine->submit(endless(1));  // until the inbox is closed
  }
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  gate.open();
  for (Stream& stream : streams) EXPECT_EQ(read_all(stream).size(), 30u);
  stopped.get();
  EXPECT_TRUE(engine->healthy());
}

// The model's steps go on, slowly, until `stream` is told its end.
TokenEvent read_last_while_steps_go_on(Gate& gate, Stream& stream, size_t* num_tokens) {
  std::atomic<bool> is_done{false};
  std::thread opener([&] {
    while (!is_done) {
      gate.open(1);
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  TokenEvent last;
  *num_tokens = read_all(stream, nullptr, &last).size();
  is_done = true;
  opener.join();
  gate.open();
  return last;
}

TEST_P(EngineAtDepth, shutdown_without_time_aborts_and_a_second_shorter_call_cuts_a_drain) {
  for (bool is_cut : {false, true}) {
    SCOPED_TRACE(is_cut);
    Gate gate;
    std::unique_ptr<Engine> engine =
        make_engine(small_config(), nullptr, through(gate), GetParam());
    Result<Stream> stream = engine->submit(endless(1, 900));
    gate.open(2);
    gate.wait_for_arrivals(3);
    std::future<void> stopped = std::async(std::launch::async, [&] {
      engine->shutdown(is_cut ? std::chrono::hours(10) : milliseconds(0));
    });
    std::future<void> cut;
    if (is_cut) {
      gate.open(2);
      gate.wait_for_arrivals(5);
      cut = std::async(std::launch::async, [&] { engine->shutdown(milliseconds(0)); });
    }
    size_t num_tokens = 0;
    const TokenEvent last = read_last_while_steps_go_on(gate, *stream, &num_tokens);
    EXPECT_LT(num_tokens, 900u);
    EXPECT_EQ(last.finish, FinishReason::kAbort);
    ASSERT_TRUE(last.error);
    EXPECT_EQ(last.error->code, ErrorCode::kUnavailable);
    stopped.get();
    if (is_cut) cut.get();
    EXPECT_EQ(engine->gauges().free_blocks, kNumBlocks);
  }
}

TEST(Engine, requests_without_a_seed_draw_different_ones) {
  std::unique_ptr<Engine> engine = make_engine(small_config());
  std::set<std::vector<int32_t>> outputs;
  for (int i = 0; i < 4; ++i) {
    Request request = endless(1, 20);
    request.sampling.temperature = 1.0f;
    request.sampling.seed.reset();
    Result<Stream> stream = engine->submit(request);
    outputs.insert(read_all(*stream));
  }
  EXPECT_EQ(outputs.size(), 4u);
}

TEST_P(EngineAtDepth, reset_prefix_cache_forgets_prompts) {
  std::unique_ptr<Engine> engine = make_engine(small_config(), nullptr, {}, GetParam());
  const auto cached = [&] {
    Result<Stream> stream = engine->submit(endless(1, 2));
    read_all(*stream);
    return stream->timing().cached_tokens;
  };
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 16);
  engine->reset_prefix_cache();
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 16);
}

TEST(Engine, idle_moments_are_used_before_the_engine_sleeps) {
  auto runner = std::make_unique<FakeRunner>(kNumBlocks, /*depth=*/1);
  FakeRunner& fake = *runner;
  fake.num_idle_moments = 5;
  std::unique_ptr<Engine> engine = Engine::create_with_runner(std::move(runner), small_config(),
                                                              kNumBlocks, {kFakeEos}, nullptr);
  const TimePoint begin = Clock::now();
  while (fake.num_idle_moments > 0 && seconds_since(begin) < 30.0) std::this_thread::yield();
  EXPECT_EQ(fake.num_idle_moments, 0);
  Result<Stream> stream = engine->submit(endless(1, 3));
  EXPECT_EQ(read_all(*stream).size(), 3u);
}

TEST(Engine, steps_report_the_time_of_the_device_and_of_the_host) {
  struct Times : CountingListener {
    void on_step(const StepStats& step) override {
      if (step.generated_tokens == 0) return;
      std::lock_guard lock(mutex);
      EXPECT_GT(step.seconds, 0.0);
      EXPECT_GE(step.host_seconds, 0.0);
      EXPECT_LT(step.host_seconds, 10.0);
      EXPECT_FALSE(step.is_graph);
      ++steps;
    }
    int steps = 0;
  };
  for (int depth : {0, 1}) {
    Times times;
    std::unique_ptr<Engine> engine = make_engine(small_config(), &times, {}, depth);
    Result<Stream> stream = engine->submit(endless(1, 20));
    EXPECT_EQ(read_all(*stream).size(), 20u);
    engine->shutdown(milliseconds(0));
    EXPECT_EQ(times.steps, 20);
  }
}

TEST(Engine, streams_may_outlive_their_engine) {
  std::unique_ptr<Engine> engine = make_engine(small_config());
  Result<Stream> stream = engine->submit(endless(1, 3));
  read_all(*stream);
  engine.reset();
  EXPECT_TRUE(stream->finished());
  EXPECT_EQ(stream->timing().generated_tokens, 3);
}

}  // namespace
}  // namespace donar::engine::test
