// Loading onto a CUDA device: what is there afterwards is bit for bit what the CPU loads, nothing
// else is written, staging stays within its bound and goes home, and whatever goes wrong is an
// error. Skipped without a device, unless DONAR_REQUIRE_CUDA is set.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "model/load_plan.h"
#include "ops/random_value.h"
#include "tensor/cuda.h"
#include "tests/model/cuda_weights.h"
#include "tests/model/large_model.h"
#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

class CudaLoad : public testing::Test {
 protected:
  // Weights on the device, and a copy of their bytes with views into it.
  struct Loaded {
    Weights weights;
    std::vector<std::byte> memory;  // with room to begin at a multiple of 1,024
    std::byte* copy = nullptr;
    LoadPlan plan;
  };

  void SetUp() override {
    const Result<std::vector<CudaDevice>> devices = cuda_devices();
    if (!devices || devices->empty()) {
      const std::string reason = devices ? "there is no CUDA device" : devices.error().message;
      if (std::getenv("DONAR_REQUIRE_CUDA") != nullptr) FAIL() << reason;
      GTEST_SKIP() << reason;
    }
    const Result<CudaDevice> opened = open_cuda_device(0);
    ASSERT_OK(opened);
    stream_ = std::make_unique<CudaStream>(CudaStream::create(*opened));
    ex_.device = DeviceType::kCuda;
    ex_.pool = &pool_;
    ex_.cuda = &stream_->exec();
    ex_.activation = DType::kBF16;
  }

  Result<Weights> load(const ModelFiles& files, const LoadOptions& options) {
    return load_weights(ex_, device_ledger_, files, options, &host_ledger_);
  }

  void load_and_copy(const ModelFiles& files, const LoadOptions& options, Loaded& loaded) {
    Result<Weights> weights = load(files, options);
    ASSERT_OK(weights);
    loaded.weights = std::move(*weights);
    ASSERT_EQ(loaded.weights.buffers.size(), 1u);
    const Buffer& buffer = loaded.weights.buffers.front();
    loaded.memory.resize(buffer.size() + 1024);
    loaded.copy = reinterpret_cast<std::byte*>(
        (reinterpret_cast<uintptr_t>(loaded.memory.data()) + 1023) / 1024 * 1024);
    cuda_copy(loaded.copy, buffer.data(), buffer.size(), stream_->handle());
    stream_->wait();
    Result<LoadPlan> plan = plan_load(files, options, ex_, loaded.copy);
    ASSERT_OK(plan);
    loaded.plan = std::move(*plan);
    EXPECT_EQ(loaded.plan.packed_bytes, buffer.size());
    EXPECT_EQ(device_ledger_.total(), buffer.size());
    EXPECT_EQ(device_ledger_.used(MemoryUse::kWeights), buffer.size());
    EXPECT_EQ(host_ledger_.total(), 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 256, 0u);
  }

  void expect_same_as_on_the_cpu(const fs::path& path, const LoadOptions& options) {
    SCOPED_TRACE(path.string());
    const auto cpu = Runner::open(path, {});
    ASSERT_TRUE(cpu);
    const Result<DType> dtype = cuda_dtype(cpu->files(), options);
    ASSERT_OK(dtype);
    ex_.activation = *dtype;
    Loaded loaded;
    ASSERT_NO_FATAL_FAILURE(load_and_copy(cpu->files(), options, loaded));
    TiledComparison comparison(*dtype);
    comparison.weights(cpu->files().config, cpu->weights(), loaded.plan.weights);
    comparison.rest_is_zero(loaded.copy, loaded.plan.packed_bytes);
    EXPECT_GT(comparison.num_compared(), 1000u);
  }

  MemoryLedger host_ledger_;
  MemoryLedger device_ledger_{0, MemorySpace::kCuda};
  ThreadPool pool_{2};
  std::unique_ptr<CudaStream> stream_;
  Exec ex_;
};

TEST_F(CudaLoad, checkpoints_equal_what_the_cpu_loads) {
  for (const char* name :
       {"llama", "llama_bias_tied", "llama_new_keys", "mistral_window", "qwen2", "qwen3"})
    expect_same_as_on_the_cpu(tiny(name), {});
  EXPECT_EQ(device_ledger_.total(), 0u);
}

TEST_F(CudaLoad, gguf_equals_what_the_cpu_loads) {
  expect_same_as_on_the_cpu(tiny("llama") / "model.gguf", {});
}

TEST_F(CudaLoad, groups_of_mixed_formats_equal_what_the_cpu_loads) {
  const TempDir dir;
  expect_same_as_on_the_cpu(write_mixed_gguf(dir), {});
  expect_same_as_on_the_cpu(write_mixed_gguf(dir), {.dtype = DType::kF16});
}

TEST_F(CudaLoad, casts_to_the_16_bit_type_that_is_asked_for) {
  expect_same_as_on_the_cpu(tiny("qwen3"), {.dtype = DType::kF16});
}

// Value (row, k) of a packed matrix.
uint16_t packed_bits(const quant::LinearWeight& weight, int64_t row, int64_t k) {
  return static_cast<const uint16_t*>(
      weight.data)[ops::tiled_weight_offset(row, k, weight.k, weight.tile_rows)];
}

TEST_F(CudaLoad, large_tensors_stream_through_bounded_staging) {
  for (const size_t padding : {0u, 1u}) {  // 1: nothing in the file is aligned
    for (const bool cold : {false, true}) {
      SCOPED_TRACE(fmt::format("padding {}, {}", padding, cold ? "cold" : "cached"));
      const TempDir dir;
      LargeModel::write(dir.path(), padding);
      const fs::path path = dir.path() / "model.safetensors";
      if (cold) {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        ASSERT_EQ(::fsync(fd), 0);
        ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        ::close(fd);
      }
      const bool was_cold = resident_share(path) < 0.01;
      const Result<ModelFiles> files = open_model(dir.path());
      ASSERT_OK(files);
      uint64_t staging = 0, last = 0, total = 0;
      LoadOptions options;
      options.on_progress = [&](uint64_t done, uint64_t all) {
        EXPECT_GE(done, last);
        last = done;
        total = all;
        staging = std::max(staging, host_ledger_.used(MemoryUse::kStaging) +
                                        device_ledger_.used(MemoryUse::kStaging));
      };
      Loaded loaded;
      ASSERT_NO_FATAL_FAILURE(load_and_copy(*files, options, loaded));
      EXPECT_EQ(last, total);
      EXPECT_GT(total, uint64_t{LargeModel::kVocab} * LargeModel::kDim * 2);
      EXPECT_GT(staging, 0u);
      EXPECT_LE(staging, kStagingBound);
      if (was_cold) {
        EXPECT_LT(resident_share(path), 0.1) << "a cold file was left in the page cache";
      } else {
        EXPECT_GT(resident_share(path), 0.99) << "pages that others brought in were dropped";
      }
      const Weights& weights = loaded.plan.weights;
      for (int64_t row = 0; row < LargeModel::kVocab; ++row)
        for (int64_t k = 0; k < LargeModel::kDim; ++k)
          ASSERT_EQ(packed_bits(weights.embedding, row, k),
                    LargeModel::value(0, row * LargeModel::kDim + k))
              << row << ", " << k;
      const quant::LinearWeight& gate_up = weights.layers[0].gate_up.parts[0];
      for (int64_t row = 0; row < LargeModel::kFfn; ++row)
        for (int64_t k = 0; k < LargeModel::kDim; ++k) {
          const int64_t index = row * LargeModel::kDim + k;
          ASSERT_EQ(packed_bits(gate_up, ops::interleaved_row(row, 0), k),
                    LargeModel::value(7, index));
          ASSERT_EQ(packed_bits(gate_up, ops::interleaved_row(row, 1), k),
                    LargeModel::value(8, index));
        }
    }
  }
  EXPECT_EQ(device_ledger_.total(), 0u);
}

TEST_F(CudaLoad, made_up_weights_are_the_same_as_on_the_cpu_and_none_is_zero_or_nan) {
  const TempDir dir;
  dir.write("config.json", read_bytes(tiny("qwen2") / "config.json"));
  const auto cpu = Runner::open(dir.path(), {.load_format = LoadFormat::kDummy});
  ASSERT_TRUE(cpu);
  const LoadOptions options{.load_format = LoadFormat::kDummy};
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    ex_.activation = dtype;
    Loaded loaded;
    ASSERT_NO_FATAL_FAILURE(load_and_copy(cpu->files(), options, loaded));
    const Weights& weights = loaded.plan.weights;
    if (dtype == DType::kBF16) {
      TiledComparison comparison(dtype);
      comparison.weights(cpu->files().config, cpu->weights(), weights);
      comparison.rest_is_zero(loaded.copy, loaded.plan.packed_bytes);
    }
    int64_t zeros = 0;
    double squares = 0.0;
    const quant::LinearWeight& down = weights.layers[0].down.parts[0];
    for (int64_t row = 0; row < down.n; ++row)
      for (int64_t k = 0; k < down.k; ++k) {
        const uint16_t bits = packed_bits(down, row, k);
        const float value = dtype == DType::kF16
                                ? f16_to_f32(bits)
                                : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
        ASSERT_TRUE(std::isfinite(value)) << row << ", " << k;
        zeros += value == 0.0f ? 1 : 0;
        squares += double{value} * value;
      }
    EXPECT_EQ(zeros, 0);
    const double spread = std::sqrt(squares / static_cast<double>(down.n * down.k));
    EXPECT_NEAR(spread * std::sqrt(static_cast<double>(down.k)), 1.0, 0.1);
  }
}

TEST_F(CudaLoad, a_torn_checkpoint_is_an_error_and_leaves_nothing) {
  const TempDir dir;
  LargeModel::write(dir.path(), 0);
  const Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  fs::resize_file(dir.path() / "model.safetensors", 30'000'000);
  EXPECT_ERROR_SAYS(load(*files, {}), "model.safetensors", "truncated");
  EXPECT_EQ(device_ledger_.total(), 0u);
  EXPECT_EQ(host_ledger_.total(), 0u);
  expect_same_as_on_the_cpu(tiny("llama"), {});  // the device is as good as before
}

TEST_F(CudaLoad, may_be_cancelled_at_any_time) {
  struct Cancelled {};
  const TempDir dir;
  LargeModel::write(dir.path(), 0);
  const Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  for (int after = 1; after <= 4; ++after) {
    LoadOptions options;
    int calls = 0;
    options.on_progress = [&](uint64_t, uint64_t) {
      if (++calls == after) throw Cancelled();
    };
    EXPECT_THROW((void)load(*files, options), Cancelled) << after;
    EXPECT_EQ(device_ledger_.total(), 0u);
    EXPECT_EQ(host_ledger_.total(), 0u);
  }
}

TEST_F(CudaLoad, a_ledger_without_room_refuses_before_anything_is_read) {
  const Result<ModelFiles> files = open_model(tiny("llama"));
  ASSERT_OK(files);
  MemoryLedger small(1000, MemorySpace::kCuda);
  const Result<Weights> weights = load_weights(ex_, small, *files, {}, &host_ledger_);
  ASSERT_FALSE(weights.has_value());
  EXPECT_EQ(weights.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(small.total(), 0u);
  EXPECT_EQ(host_ledger_.total(), 0u);
}

}  // namespace
}  // namespace donar::model::test
