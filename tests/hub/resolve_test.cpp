// Names to files, over a cache tree that each test makes: refs, snapshots, links, and the ways in
// which downloads go wrong.
#include "hub/resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace donar::hub {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";
constexpr const char* kOtherCommit = "89abcdef0123456789abcdef0123456789abcdef";

class ResolveTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "donar-hub-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    cache_.hub_cache = root_ / "hub";
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& file, const std::string& text) {
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  // As the client writes it: data in blobs, a relative link in the snapshot.
  void cache_file(const std::string& name, const std::string& text,
                  const std::string& commit = kCommit) {
    const fs::path repository = cache_.hub_cache / "models--org--name";
    write(repository / "blobs" / (name + commit), text);
    const fs::path link = repository / "snapshots" / commit / name;
    fs::create_directories(link.parent_path());
    fs::create_symlink(fs::path("../../blobs") / (name + commit), link);
  }
  void ref(const std::string& name, const std::string& text) {
    write(cache_.hub_cache / "models--org--name" / "refs" / name, text);
  }
  void cache_whole_model(const std::string& commit = kCommit) {
    cache_file("config.json", "{}", commit);
    cache_file("model.safetensors", "weights", commit);
  }
  fs::path snapshot(const std::string& commit = kCommit) {
    return cache_.hub_cache / "models--org--name" / "snapshots" / commit;
  }
  std::string error_of(const std::string& model, const std::string& revision = "") {
    Result<fs::path> path = resolve_model(model, revision, cache_);
    EXPECT_FALSE(path.has_value()) << "resolved to " << path.value_or("");
    return path ? "" : path.error().message;
  }

  fs::path root_;
  CacheLocation cache_;
};

TEST_F(ResolveTest, repository_id_follows_refs_main_to_its_snapshot) {
  cache_whole_model();
  cache_whole_model(kOtherCommit);
  ref("main", kOtherCommit);
  Result<fs::path> path = resolve_model("org/name", "", cache_);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(*path, snapshot(kOtherCommit));
}

TEST_F(ResolveTest, ref_with_a_trailing_newline_is_tolerated) {
  cache_whole_model();
  ref("main", std::string(kCommit) + "\n");
  EXPECT_TRUE(resolve_model("org/name", "main", cache_));
}

TEST_F(ResolveTest, revision_may_be_a_commit_a_tag_or_a_nested_ref) {
  cache_whole_model();
  cache_whole_model(kOtherCommit);
  ref("main", kCommit);
  ref("v1", kOtherCommit);
  ref("pr/3", kOtherCommit);
  for (const std::string revision : {kOtherCommit, "v1", "pr/3"}) {
    Result<fs::path> path = resolve_model("org/name", revision, cache_);
    ASSERT_TRUE(path) << revision << ": " << path.error().message;
    EXPECT_EQ(*path, snapshot(kOtherCommit)) << revision;
  }
}

TEST_F(ResolveTest, the_only_snapshot_is_used_when_refs_main_is_missing) {
  cache_whole_model();
  EXPECT_EQ(resolve_model("org/name", "", cache_).value(), snapshot());
  cache_whole_model(kOtherCommit);
  EXPECT_THAT(error_of("org/name"),
              testing::AllOf(HasSubstr("refs/main"), HasSubstr(kCommit), HasSubstr(kOtherCommit)));
}

TEST_F(ResolveTest, unknown_revision_is_not_replaced_by_the_only_snapshot) {
  cache_whole_model();
  EXPECT_THAT(error_of("org/name", "v9"), HasSubstr("revision \"v9\""));
  EXPECT_THAT(error_of("org/name", kOtherCommit), HasSubstr("hf download org/name --revision"));
}

TEST_F(ResolveTest, revision_cannot_leave_the_refs_folder) {
  cache_whole_model();
  write(root_ / "secret", kCommit);
  EXPECT_THAT(error_of("org/name", "../../../secret"), HasSubstr("not the name of a revision"));
}

TEST_F(ResolveTest, garbage_in_a_ref_is_named) {
  cache_whole_model();
  ref("main", "../../../etc");
  EXPECT_THAT(error_of("org/name"), HasSubstr("40 hex digits"));
}

TEST_F(ResolveTest, model_outside_the_cache_says_where_it_looked_and_what_to_run) {
  EXPECT_THAT(error_of("org/absent"),
              testing::AllOf(HasSubstr("models--org--absent"), HasSubstr("hf download org/absent"),
                             HasSubstr("HF_HOME")));
}

TEST_F(ResolveTest, repository_without_owner_has_one_part) {
  const fs::path base = cache_.hub_cache / "models--gpt2" / "snapshots" / kCommit;
  write(base / "config.json", "{}");
  write(base / "model.safetensors", "weights");
  EXPECT_EQ(resolve_model("gpt2", "", cache_).value(), base);
}

TEST_F(ResolveTest, partial_snapshot_without_weights_or_config_is_called_partial) {
  cache_file("config.json", "{}");
  EXPECT_THAT(error_of("org/name"), testing::AllOf(HasSubstr("no weights"), HasSubstr("partial")));
  fs::remove(snapshot() / "config.json");
  EXPECT_THAT(error_of("org/name"),
              testing::AllOf(HasSubstr("config.json is missing"), HasSubstr("partial")));
}

TEST_F(ResolveTest, config_alone_is_enough_for_random_weights) {
  cache_file("config.json", "{}");
  EXPECT_TRUE(resolve_model("org/name", "", cache_, /*needs_weights=*/false));
}

TEST_F(ResolveTest, missing_shards_of_an_index_are_counted) {
  cache_file("config.json", "{}");
  cache_file(
      "model.safetensors.index.json",
      R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-3.safetensors"}})");
  cache_file("m-2.safetensors", "weights");
  EXPECT_THAT(error_of("org/name"),
              testing::AllOf(HasSubstr("2 of 3 weight files"), HasSubstr("m-1.safetensors")));
}

TEST_F(ResolveTest, index_that_points_elsewhere_is_refused) {
  cache_file("config.json", "{}");
  cache_file("model.safetensors.index.json", R"({"weight_map":{"a":"../../../x.safetensors"}})");
  EXPECT_THAT(error_of("org/name"), HasSubstr("tensor a"));
}

TEST_F(ResolveTest, link_whose_blob_is_gone_names_the_link_and_its_target) {
  cache_whole_model();
  fs::remove(cache_.hub_cache / "models--org--name" / "blobs" /
             (std::string("model.safetensors") + kCommit));
  EXPECT_THAT(error_of("org/name"),
              testing::AllOf(HasSubstr("model.safetensors"), HasSubstr("../../blobs/"),
                             HasSubstr("does not exist")));
}

TEST_F(ResolveTest, shared_store_of_two_links_in_a_row_is_read_through) {
  cache_whole_model();
  const fs::path blob = cache_.hub_cache / "models--org--name" / "blobs" /
                        (std::string("model.safetensors") + kCommit);
  fs::remove(blob);
  write(cache_.hub_cache / "blobs" / "ab" / "abcdef", "weights");
  fs::create_symlink("../../blobs/ab/abcdef", blob);
  EXPECT_TRUE(resolve_model("org/name", "", cache_));
}

TEST_F(ResolveTest, lfs_pointer_in_a_clone_is_recognised) {
  const fs::path clone = root_ / "clone";
  write(clone / "config.json", "{}");
  write(clone / "model.safetensors",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
  EXPECT_THAT(error_of(clone.string()),
              testing::AllOf(HasSubstr("Git LFS pointer"), HasSubstr("git lfs pull")));
}

TEST_F(ResolveTest, existing_directory_wins_over_the_cache) {
  const fs::path directory = root_ / "here";
  write(directory / "config.json", "{}");
  write(directory / "model.safetensors", "weights");
  EXPECT_EQ(resolve_model(directory.string(), "", cache_).value(), directory);
}

TEST_F(ResolveTest, directory_without_config_gives_its_only_gguf) {
  const fs::path directory = root_ / "gguf";
  write(directory / "m-00001-of-00002.gguf", "GGUF");
  write(directory / "m-00002-of-00002.gguf", "GGUF");
  EXPECT_EQ(resolve_model(directory.string(), "", cache_).value(),
            directory / "m-00001-of-00002.gguf");
  write(directory / "n.gguf", "GGUF");
  EXPECT_THAT(error_of(directory.string()),
              testing::AllOf(HasSubstr("several"), HasSubstr("n.gguf")));
}

TEST_F(ResolveTest, gguf_file_is_taken_and_other_files_are_not) {
  write(root_ / "m.gguf", "GGUF");
  write(root_ / "model.safetensors", "weights");
  EXPECT_EQ(resolve_model((root_ / "m.gguf").string(), "", cache_).value(), root_ / "m.gguf");
  EXPECT_THAT(error_of((root_ / "model.safetensors").string()), HasSubstr("give the directory"));
  EXPECT_THAT(error_of((root_ / "absent.gguf").string()), HasSubstr("does not exist"));
}

TEST_F(ResolveTest, pickled_weights_are_called_by_name) {
  const fs::path directory = root_ / "old";
  write(directory / "config.json", "{}");
  write(directory / "pytorch_model.bin", "x");
  EXPECT_THAT(error_of(directory.string()), HasSubstr("convert them to safetensors"));
}

TEST_F(ResolveTest, names_that_are_no_repository_never_become_cache_paths) {
  for (const std::string name : {"a/b/c", "../x", "a//b", "a/", "a b", "a/..", "org--name"})
    EXPECT_THAT(error_of(name), HasSubstr("does not exist")) << name;
  EXPECT_THAT(error_of(""), HasSubstr("empty"));
}

TEST(CacheLocation, variables_rank_as_in_the_reference_client) {
  std::map<std::string, std::string> env = {{"HOME", "/home/u"}};
  EXPECT_EQ(cache_location(env).hub_cache, "/home/u/.cache/huggingface/hub");
  env["XDG_CACHE_HOME"] = "/xdg";
  EXPECT_EQ(cache_location(env).hub_cache, "/xdg/huggingface/hub");
  env["HF_HOME"] = "~/hf";
  EXPECT_EQ(cache_location(env).hub_cache, "/home/u/hf/hub");
  env["HUGGINGFACE_HUB_CACHE"] = "/old";
  EXPECT_EQ(cache_location(env).hub_cache, "/old");
  env["HF_HUB_CACHE"] = "${XDG_CACHE_HOME}/new/$HOME";
  EXPECT_EQ(cache_location(env).hub_cache, "/xdg/new//home/u");
  env["HF_HUB_CACHE"] = "";
  EXPECT_EQ(cache_location(env).hub_cache, "/old");
}

}  // namespace
}  // namespace donar::hub
