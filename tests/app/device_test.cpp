// Which device a command gets, and what it hears when it does not get the one it named.
#include "app/device.h"

#include <gtest/gtest.h>

namespace donar::app {
namespace {

bool has_cuda_device() {
  if constexpr (kCuda) {
    const Result<std::vector<CudaDevice>> devices = cuda_devices();
    return devices && !devices->empty();
  }
  return false;
}

TEST(OpenDevice, the_cpu_is_always_there) {
  const Result<Device> device = open_device("cpu");
  ASSERT_TRUE(device.has_value());
  EXPECT_FALSE(device->cuda.has_value());
  EXPECT_TRUE(device->note.empty());
  EXPECT_EQ(device->description(), "the CPU");
}

TEST(OpenDevice, auto_takes_what_there_is_and_says_why_it_is_the_cpu) {
  const Result<Device> device = open_device("auto");
  ASSERT_TRUE(device.has_value()) << device.error().message;
  EXPECT_EQ(device->cuda.has_value(), has_cuda_device());
  EXPECT_EQ(device->note.empty(), !kCuda || has_cuda_device()) << device->note;
  EXPECT_FALSE(device->is_fault) << device->note;
  if (device->cuda) {
    EXPECT_NE(device->description().find("sm_"), std::string::npos) << device->description();
    const engine::MemoryLimit limit = cuda_memory_limit(*device->cuda, {});
    EXPECT_LE(limit.bytes, device->cuda->total_bytes / 10 * 9 + 9);
    engine::EngineConfig all;
    all.kv_cache_bytes = 1;
    EXPECT_GT(cuda_memory_limit(*device->cuda, all).bytes, limit.bytes);
  }
}

TEST(OpenDevice, a_named_device_opens_or_is_an_error) {
  const Result<Device> device = open_device("cuda");
  EXPECT_EQ(device.has_value(), has_cuda_device());
  if (device) {
    ASSERT_TRUE(device->cuda.has_value());
    EXPECT_EQ(device->cuda->ordinal, 0);
  } else {
    EXPECT_FALSE(device.error().message.empty());
  }
  const Result<Device> absent = open_device("cuda:1000");
  EXPECT_FALSE(absent.has_value());
}

TEST(OpenDevice, auto_takes_the_first_device_that_there_is_code_for) {
  std::vector<CudaDevice> devices(3);
  for (int i = 0; i < 3; ++i) devices[static_cast<size_t>(i)].ordinal = i;
  devices[0].arch = 80;  // A100
  devices[1].arch = 89;  // L4
  devices[2].arch = 90;  // H100
  EXPECT_EQ(choose_cuda_device(devices, "87,90a"), 2);
  EXPECT_EQ(choose_cuda_device(devices, "80,90a"), 0);
  EXPECT_EQ(choose_cuda_device(devices, "87,121a"), std::nullopt);
  EXPECT_EQ(choose_cuda_device({}, "90a"), std::nullopt);
}

TEST(OpenDevice, other_words_are_refused) {
  for (const char* word : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", "CPU"}) {
    const Result<Device> device = open_device(word);
    ASSERT_FALSE(device.has_value()) << word;
    EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument) << word;
    EXPECT_EQ(device.error().param, "--device");
  }
}

TEST(Memory, counts_both_ledgers_and_names_the_host) {
  Memory memory;
  EXPECT_EQ(&memory.of_model(), &memory.host);
  ASSERT_TRUE(memory.host.reserve(MemoryUse::kStaging, 1000));
  EXPECT_EQ(memory.summary(), memory.host.summary());
  memory.cuda = std::make_unique<MemoryLedger>(0, MemorySpace::kCuda);
  EXPECT_EQ(&memory.of_model(), memory.cuda.get());
  ASSERT_TRUE(memory.cuda->reserve(MemoryUse::kKv, 5000));
  EXPECT_EQ(memory.total(), 6000u);
  EXPECT_EQ(memory.summary(), "kv 5.0 kB, total 5.0 kB; host: staging 1.0 kB, total 1.0 kB");
  memory.host.release(MemoryUse::kStaging, 1000);
  memory.cuda->release(MemoryUse::kKv, 5000);
}

}  // namespace
}  // namespace donar::app
