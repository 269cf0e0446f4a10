// A kernel that really fails under a running server: open answers end with an error object, /health
// says 503, all memory comes home, and the process ends with 1. In a child process, because nothing
// can be computed in it afterwards. Skips without a device, unless DONAR_REQUIRE_CUDA is set.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>

#include "app/serving.h"
#include "tests/app/cuda_trap.h"
#include "tests/engine/cuda_engine_fixture.h"
#include "tests/server/server_fixture.h"

namespace donar::app {
namespace {

using server::testing::HttpClient;
using server::testing::Reply;

class CudaFailure : public engine::CudaEngine {
 protected:
  // What `donar serve` does once its model is there, while a kernel fails: 1 if all went as it
  // should, else the number of what did not.
  int serve_until_the_device_fails() {
    std::unique_ptr<engine::Engine> engine = start(failing_config());
    server::ServerConfig config;
    config.port = 0;
    config.model_names = {"tiny"};
    server::Server server(config);
    if (!server.start()) return 2;
    server::ServedModel model;
    model.tokenizer = std::make_shared<text::Tokenizer>(server::testing::byte_tokenizer());
    model.engine = engine.get();
    server.set_model(std::move(model));

    const auto ask = [&](bool stream) {
      HttpClient client(server.port());
      client.send_request("POST", "/v1/completions",
                          std::string(R"({"prompt":[1,2,3],"max_tokens":100,"ignore_eos":true)") +
                              (stream ? R"(,"stream":true})" : "}"));
      return client.receive();
    };
    const auto health = [&] {
      HttpClient client(server.port());
      client.send_request("GET", "/health");
      return client.receive().status;
    };
    if (ask(/*stream=*/true).status != 200 || ask(/*stream=*/false).status != 200) return 3;
    if (health() != 200) return 4;

    // The trap ends whatever step is next to run: of this request or of the one after it.
    launch_trap();
    Reply reply;
    for (int i = 0; i < 1000 && engine->healthy(); ++i) reply = ask(/*stream=*/true);
    std::fprintf(stderr, "the last answer: %d %s\n", reply.status, reply.body.c_str());
    if (reply.body.find("\"error\"") == std::string::npos ||
        reply.body.find("cudaError") == std::string::npos)
      return 5;
    if (health() != 503) return 6;
    if (ask(/*stream=*/false).status != 503) return 7;

    Memory memory;
    SignalWaiter signals({});
    const Result<int> code =
        serve_until_stopped(*engine, server, memory, signals, std::chrono::seconds(60));
    if (code) return 8;
    std::fprintf(stderr, "%s\n", code.error().message.c_str());
    engine.reset();
    return ledger_.total() == 0 && host_ledger_.total() == 0 ? 1 : 9;
  }

 private:
  // Without graphs an idle engine leaves the device alone, so that a request meets the failure.
  static engine::EngineConfig failing_config() {
    engine::EngineConfig eager = config();
    eager.enforce_eager = true;
    return eager;
  }
};

TEST_P(CudaFailure, a_kernel_that_fails_ends_streams_health_and_process) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a forked child has no CUDA
  EXPECT_EXIT(std::exit(serve_until_the_device_fails()), testing::ExitedWithCode(1),
              "engine failed");
}

INSTANTIATE_TEST_SUITE_P(Models, CudaFailure, testing::Values("llama"));

}  // namespace
}  // namespace donar::app
