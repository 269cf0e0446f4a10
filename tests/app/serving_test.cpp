// How serving ends: a runner that fails takes its streams, the health of the server and the exit
// code with it, on every device and wherever in a step it fails; a signal ends it well.
#include "app/serving.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tensor/cuda.h"
#include "tests/engine/fake_runner.h"
#include "tests/server/server_fixture.h"

namespace donar::app {
namespace {

using engine::test::FakeRunner;
using server::testing::HttpClient;
using server::testing::Reply;

constexpr int64_t kNumBlocks = 128;
constexpr auto kEndless = R"({"prompt":"a","max_tokens":1500,"ignore_eos":true,"stream":true})";
constexpr auto kEndlessWhole = R"({"prompt":"b","max_tokens":1500,"ignore_eos":true})";

enum class Place { kLaunch, kCollect };
struct Fault {
  int depth;  // of the runner: 0 as on the CPU, 1 as on CUDA
  Place place;
  bool throws;
};

std::ostream& operator<<(std::ostream& out, const Fault& fault) {
  return out << "depth " << fault.depth
             << (fault.place == Place::kLaunch ? ", launch" : ", collect")
             << (fault.throws ? " throws" : " fails");
}

class ServingTest : public server::testing::ServerTest {
 protected:
  void TearDown() override { server_.reset(); }  // before the engine

  void serve(std::unique_ptr<FakeRunner> runner) {
    engine::EngineConfig config;
    config.max_num_seqs = 4;
    config.max_num_batched_tokens = 64;
    served_engine_ = engine::Engine::create_with_runner(std::move(runner), config, kNumBlocks,
                                                        {engine::test::kFakeEos}, nullptr);
    start(default_config());
    server::ServedModel model = served_model();
    model.engine = served_engine_.get();
    server_->set_model(std::move(model));
  }
  void wait_until_running(int count) const {
    while (served_engine_->gauges().running < count) std::this_thread::yield();
  }
  static std::string rest_of(HttpClient& client) {
    std::string rest;
    while (const auto chunk = client.receive_chunk()) {
      if (chunk->empty()) break;
      rest += *chunk;
    }
    return rest;
  }

  std::unique_ptr<engine::Engine> served_engine_;
  Memory memory_;
};

class ServingFault : public ServingTest, public testing::WithParamInterface<Fault> {};

TEST_P(ServingFault, fails_open_streams_with_an_error_object_and_ends_with_an_error) {
  std::atomic<bool> is_broken{false};
  const auto step = [&](Place place) -> Result<void> {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!is_broken || place != GetParam().place) return {};
    if (GetParam().throws) throw CudaError("a step on the device: unspecified launch failure");
    return fail(ErrorCode::kInternal, "unspecified launch failure");
  };
  auto runner = std::make_unique<FakeRunner>(kNumBlocks, GetParam().depth);
  runner->before_step = [&](const engine::StepPlan&) { return step(Place::kLaunch); };
  runner->before_collect = [&] { return step(Place::kCollect); };
  serve(std::move(runner));
  HttpClient streaming(port()), waiting(port());
  streaming.send_request("POST", "/v1/completions", kEndless);
  EXPECT_EQ(streaming.receive(/*head_only=*/true).status, 200);
  EXPECT_TRUE(streaming.receive_chunk().has_value());
  waiting.send_request("POST", "/v1/completions", kEndlessWhole);
  wait_until_running(2);
  EXPECT_EQ(get("/health").status, 200);

  is_broken = true;
  const auto events = events_of(rest_of(streaming));
  ASSERT_FALSE(events.empty());
  const json::value& error = events.back().at("error");
  EXPECT_NE(error.at("message").as_string().find("unspecified launch failure"), std::string::npos);
  EXPECT_EQ(error.at("code"), 500);
  const Reply reply = waiting.receive();
  EXPECT_EQ(reply.status, 500);
  EXPECT_NE(error_message(reply).find("unspecified launch failure"), std::string::npos);
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(parse(get("/health").body).at("status"), "failed");
  EXPECT_EQ(post("/v1/completions", kEndlessWhole).status, 503);
  EXPECT_EQ(served_engine_->gauges().free_blocks, kNumBlocks);

  SignalWaiter signals({});
  const Result<int> code =
      serve_until_stopped(*served_engine_, *server_, memory_, signals, std::chrono::seconds(60));
  ASSERT_FALSE(code.has_value());
  EXPECT_EQ(code.error().code, ErrorCode::kInternal);
  EXPECT_NE(code.error().message.find("engine failed"), std::string::npos);
  EXPECT_FALSE(HttpClient(port()).connected());
}

INSTANTIATE_TEST_SUITE_P(
    Everywhere, ServingFault,
    testing::Values(Fault{0, Place::kLaunch, false}, Fault{0, Place::kLaunch, true},
                    Fault{0, Place::kCollect, true}, Fault{1, Place::kLaunch, false},
                    Fault{1, Place::kLaunch, true}, Fault{1, Place::kCollect, false},
                    Fault{1, Place::kCollect, true}));

TEST_F(ServingTest, a_signal_lets_requests_finish_unless_the_engine_fails_meanwhile) {
  for (const bool fails : {false, true}) {
    SCOPED_TRACE(fails);
    std::atomic<bool> is_stopping{false};
    auto runner = std::make_unique<FakeRunner>(kNumBlocks);
    runner->before_step = [&](const engine::StepPlan&) -> Result<void> {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (fails && is_stopping) return fail(ErrorCode::kInternal, "device lost");
      return {};
    };
    serve(std::move(runner));
    HttpClient client(port());
    client.send_request("POST", "/v1/completions",
                        R"({"prompt":"a","max_tokens":200,"ignore_eos":true})");
    wait_until_running(1);
    SignalWaiter signals({SIGUSR1});
    is_stopping = true;
    raise(SIGUSR1);
    const Result<int> code =
        serve_until_stopped(*served_engine_, *server_, memory_, signals, std::chrono::seconds(60));
    EXPECT_EQ(code.has_value(), !fails);
    EXPECT_EQ(client.receive().status, fails ? 500 : 200);
  }
}

}  // namespace
}  // namespace donar::app
