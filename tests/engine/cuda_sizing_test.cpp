// What an engine on a CUDA device takes, from descriptions of devices and models alone: runs
// without a device.
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/engine.h"
#include "engine/kv_sizing.h"
#include "model/model.h"

namespace donar::engine {
namespace {

model::ModelFiles llama_8b() {
  model::ModelFiles files;
  model::ModelConfig& config = files.config;
  config.vocab_size = 128256;
  config.dim = 4096;
  config.ffn_dim = 14336;
  config.q_heads = 32;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.max_position = 131072;
  config.layers.resize(32);
  return files;
}

CudaDevice described(uint64_t total_bytes) {
  CudaDevice device;
  device.name = "a device";
  device.arch = 90;
  device.num_sms = 132;
  device.shared_bytes_per_block = 227 << 10;
  device.total_bytes = total_bytes;
  return device;
}

Result<void> check(uint64_t total_bytes, const EngineConfig& config,
                   DType activation = DType::kBF16, const model::ModelFiles& files = llama_8b()) {
  const CudaDevice device = described(total_bytes);
  CudaExec cuda;
  cuda.arch = device.arch;
  cuda.num_sms = device.num_sms;
  Exec ex;
  ex.device = DeviceType::kCuda;
  ex.cuda = &cuda;
  ex.activation = activation;
  const Result<model::Weights> planned = model::plan_weights(
      ex, files, {.load_format = model::LoadFormat::kDummy, .dtype = activation});
  if (!planned) return tl::unexpected<Error>(planned.error());
  MemoryLedger host, ledger(0, MemorySpace::kCuda);
  return Engine::check_fits(
      ledger, files.config, *planned, config,
      {&device, memory_limit(total_bytes, total_bytes - 600'000'000, 0.9), &host});
}

int64_t number_after(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  return at == std::string::npos ? -1 : std::atoll(text.c_str() + at + words.size());
}

TEST(CudaSizing, an_8b_model_fits_80_gb_with_its_whole_context) {
  const Result<void> fits = check(85'000'000'000, {});
  EXPECT_TRUE(fits.has_value()) << fits.error().message;
}

TEST(CudaSizing, a_context_that_does_not_fit_is_refused_with_one_that_does) {
  EngineConfig config;
  config.max_model_len = 131072;
  const Result<void> fits = check(25'700'000'000, config);
  ASSERT_FALSE(fits.has_value());
  EXPECT_EQ(fits.error().code, ErrorCode::kResourceExhausted);
  const std::string& message = fits.error().message;
  for (const char* part : {"131072 tokens", "weights 16.", "workspace", "one sequence 17.2 GB",
                           "22.5 GB available", "90 % of 25.7 GB, less 600.0 MB in use by others"})
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  const int64_t fitting = number_after(message, "--max-model-len ");
  ASSERT_GT(fitting, 4096) << message;
  config.max_model_len = fitting;
  EXPECT_TRUE(check(25'700'000'000, config).has_value()) << fitting;
  config.max_model_len = fitting + 16;
  EXPECT_FALSE(check(25'700'000'000, config).has_value()) << fitting;
  config.max_model_len = -1;
  EXPECT_TRUE(check(25'700'000'000, config).has_value());
}

TEST(CudaSizing, weights_that_do_not_fit_are_refused_whatever_the_context) {
  EngineConfig config;
  config.max_model_len = -1;
  const Result<void> fits = check(16'000'000'000, config);
  ASSERT_FALSE(fits.has_value());
  EXPECT_NE(fits.error().message.find("smaller model"), std::string::npos) << fits.error().message;
}

TEST(CudaSizing, shapes_that_the_kernels_do_not_take_are_refused_by_name) {
  constexpr uint64_t kBytes = 2'000'000'000'000;
  const auto answer = [&](auto change) {
    model::ModelFiles files = llama_8b();
    files.config.layers.resize(1);
    change(files.config);
    const Result<void> fits = check(kBytes, {}, DType::kBF16, files);
    if (fits) return std::string("fits");
    EXPECT_EQ(fits.error().code, ErrorCode::kUnsupported);
    return fits.error().message;
  };
  EXPECT_EQ(answer([](model::ModelConfig& c) { c.dim = 16384; }), "fits");
  EXPECT_EQ(answer([](model::ModelConfig& c) { c.dim = 16385; }),
            "the model has a width of 16385, and the CUDA device takes at most 16384: --device cpu "
            "runs it");
  EXPECT_EQ(answer([](model::ModelConfig& c) { c.head_dim = 256; }), "fits");
  EXPECT_NE(answer([](model::ModelConfig& c) { c.head_dim = 258; }).find("heads of 258"),
            std::string::npos);
  EXPECT_EQ(answer([](model::ModelConfig& c) { c.vocab_size = 524287; }), "fits");
  EXPECT_NE(answer([](model::ModelConfig& c) { c.vocab_size = 524288; }).find("vocabulary"),
            std::string::npos);
}

TEST(CudaSizing, a_step_of_too_many_rows_is_refused_with_how_many_there_may_be) {
  constexpr uint64_t kBytes = 2'000'000'000'000;
  EngineConfig config;
  config.max_model_len = 8192;
  config.max_num_batched_tokens = 1 << 20;
  const Result<void> fits = check(kBytes, config);
  ASSERT_FALSE(fits.has_value());
  EXPECT_EQ(fits.error().param, "max_num_batched_tokens");
  const int64_t most = number_after(fits.error().message, "of this model, ");
  EXPECT_EQ(most, ((1 << 24) - 1) / (32 + 2 * 8)) << fits.error().message;
  config.max_num_batched_tokens = static_cast<int>(most);
  const Result<void> lower = check(kBytes, config);
  EXPECT_TRUE(lower.has_value()) << lower.error().message;
  config.max_num_batched_tokens = 2048;
  config.max_model_len = 131072;
  config.chunked_prefill = false;
  EXPECT_TRUE(check(kBytes, config).has_value());
  model::ModelFiles long_model = llama_8b();
  long_model.config.layers.resize(1);
  long_model.config.max_position = config.max_model_len = most + 1;
  EXPECT_FALSE(check(kBytes, config, DType::kBF16, long_model).has_value());
}

TEST(CudaSizing, a_cache_of_another_type_than_the_weights_is_refused_with_what_is_possible) {
  constexpr uint64_t kBytes = 85'000'000'000;
  const auto refusal = [&](DType cache, DType weights) {
    EngineConfig config;
    config.kv_dtype = cache;
    const Result<void> fits = check(kBytes, config, weights);
    EXPECT_FALSE(fits.has_value());
    if (fits) return std::string();
    EXPECT_EQ(fits.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(fits.error().param, "kv_cache_dtype");
    return fits.error().message;
  };
  EXPECT_EQ(refusal(DType::kF16, DType::kBF16),
            "the KV cache cannot be in float16 on a device: there it has the type of the weights, "
            "bfloat16 here; leave --kv-cache-dtype out, or give --dtype float16 as well");
  EXPECT_NE(refusal(DType::kBF16, DType::kF16).find("float16 here"), std::string::npos);
  EXPECT_NE(refusal(DType::kF32, DType::kBF16).find("give --device cpu"), std::string::npos);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    EngineConfig config;
    config.kv_dtype = dtype;
    const Result<void> fits = check(kBytes, config, dtype);
    EXPECT_TRUE(fits.has_value()) << fits.error().message;
  }
}

}  // namespace
}  // namespace donar::engine
