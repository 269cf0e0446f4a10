#include "app/default_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "app/environment.h"

namespace donar::app {
namespace {

namespace fs = std::filesystem;

class DefaultModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "donar-default-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    cache_.hub_cache = root_ / "hub";
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const fs::path& file) {
    fs::create_directories(file.parent_path());
    std::ofstream(file) << "{}";
  }
  fs::path root_;
  hub::CacheLocation cache_;
};

TEST_F(DefaultModelTest, found_beside_the_build_folder_and_beside_a_bundle) {
  const fs::path binary = root_ / "build" / "donar";
  EXPECT_THAT(find_default_model(binary, cache_).error().message,
              testing::HasSubstr("./dev serve"));
  write(root_ / "build" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(find_default_model(binary, cache_).value(),
            root_ / "build" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf");
  write(root_ / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(find_default_model(binary, cache_).value(),
            root_ / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf");
  const fs::path directory = root_ / ".cache" / "models" / "SmolLM2-135M-Instruct";
  write(directory / "config.json");
  write(directory / "model.safetensors");
  EXPECT_EQ(find_default_model(binary, cache_).value(), directory);
}

TEST_F(DefaultModelTest, found_in_the_hub_cache) {
  const fs::path snapshot = cache_.hub_cache / "models--HuggingFaceTB--SmolLM2-135M-Instruct" /
                            "snapshots" / std::string(40, 'a');
  write(snapshot / "config.json");
  write(snapshot / "model.safetensors");
  EXPECT_EQ(find_default_model(root_ / "build" / "donar", cache_).value(), snapshot);
}

TEST(ApiKeys, come_from_both_variables_and_empty_ones_do_not_count) {
  EXPECT_THAT(api_keys_from({{"VLLM_API_KEY", "v"}, {"DONAR_API_KEY", "d"}}),
              testing::ElementsAre("d", "v"));
  EXPECT_THAT(api_keys_from({{"VLLM_API_KEY", ""}}), testing::IsEmpty());
}

}  // namespace
}  // namespace donar::app
