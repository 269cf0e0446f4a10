// safetensors: the verdicts of the reference reader, and the rules of a model directory.
#include <gtest/gtest.h>

#include <set>

#include "base/json.h"
#include "tests/model/test_files.h"

namespace donar::model::test {
namespace {

std::string base64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const uint32_t value = c >= 'A' && c <= 'Z'   ? static_cast<uint32_t>(c - 'A')
                           : c >= 'a' && c <= 'z' ? static_cast<uint32_t>(c - 'a' + 26)
                           : c >= '0' && c <= '9' ? static_cast<uint32_t>(c - '0' + 52)
                           : c == '+'             ? 62u
                           : c == '/'             ? 63u
                                                  : 64u;
    if (value == 64) break;
    bits = bits << 6 | value;
    if (++count == 4) {
      for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift & 255);
      bits = 0;
      count = 0;
    }
  }
  if (count == 2) out += static_cast<char>(bits >> 4 & 255);
  if (count == 3) {
    out += static_cast<char>(bits >> 10 & 255);
    out += static_cast<char>(bits >> 2 & 255);
  }
  return out;
}

std::string hex(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

// A stricter reader may refuse these; the format's own text asks for it.
const std::set<std::string> kRefusedOnPurpose = {"duplicate key, same record", "empty name"};

TEST(Safetensors, has_the_verdicts_of_the_reference_reader) {
  const Result<std::string> text = read_text_file(data_dir() / "safetensors_cases.json");
  ASSERT_OK(text);
  const Result<json::value> document = parse_json(*text);
  ASSERT_OK(document);
  const json::array& cases = document->at("cases").as_array();
  EXPECT_EQ(cases.size(), 72u);
  const TempDir dir;
  for (const json::value& item : cases) {
    const std::string name(item.at("name").as_string());
    SCOPED_TRACE(name);
    const std::string bytes = base64(item.at("file").as_string());
    const fs::path path = dir.write("case.safetensors", bytes);
    Checkpoint checkpoint;
    const Result<void> result = index_safetensors(path, checkpoint);
    const bool expected = item.at("ok").as_bool() && !kRefusedOnPurpose.contains(name);
    ASSERT_EQ(result.has_value(), expected) << (result ? "" : result.error().message);
    if (!result) {
      EXPECT_NE(result.error().message.find(path.string()), std::string::npos);
      EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
      continue;
    }
    const json::array& tensors = item.at("result").as_array();
    ASSERT_EQ(checkpoint.tensors.size(), tensors.size());
    for (const json::value& tensor : tensors) {
      const auto found = checkpoint.tensors.find(std::string_view(tensor.at(0).as_string()));
      ASSERT_NE(found, checkpoint.tensors.end()) << tensor.at(0).as_string();
      EXPECT_EQ(found->second.stored_type, std::string_view(tensor.at(1).as_string()));
      std::vector<int64_t> shape;
      for (const json::value& dim : tensor.at(2).as_array())
        shape.push_back(dim.to_number<int64_t>());
      EXPECT_EQ(found->second.shape, shape);
      EXPECT_EQ(hex(bytes.substr(found->second.offset, found->second.bytes)),
                std::string_view(tensor.at(3).as_string()));
    }
  }
}

TEST(Safetensors, every_truncation_is_refused) {
  const std::string bytes = read_bytes(tiny("llama_new_keys") / "model.safetensors");
  const TempDir dir;
  for (size_t size = 0; size < bytes.size(); size += size < 4096 ? 7 : 1021) {
    const fs::path path = dir.write("model.safetensors", bytes.substr(0, size));
    Checkpoint checkpoint;
    EXPECT_FALSE(index_safetensors(path, checkpoint).has_value()) << size << " bytes";
  }
}

TEST(Safetensors, an_lfs_pointer_is_named_as_such) {
  const TempDir dir;
  const fs::path path = dir.write(
      "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
  Checkpoint checkpoint;
  EXPECT_ERROR_SAYS(index_safetensors(path, checkpoint), path.string(), "Git LFS pointer");
}

const std::string kA =
    safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "aaaa");
const std::string kB = safetensors(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                   R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                   "bbbbcccc");

TEST(SafetensorsDirectory, the_index_decides_which_files_and_tensors_count) {
  const TempDir dir;
  dir.write("model-00000-of-00001.safetensors", kA);  // numbered from 0, as gpt-oss does
  dir.write("model-00001-of-00001.safetensors", kB);
  dir.write("consolidated.safetensors", "garbage that nobody opens");
  dir.write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":8.0},"weight_map":{"a":"model-00000-of-00001.safetensors",)"
      R"("b":"model-00001-of-00001.safetensors"}})");
  const Result<Checkpoint> checkpoint = open_safetensors_directory(dir.path());
  ASSERT_OK(checkpoint);
  ASSERT_EQ(checkpoint->tensors.size(), 2u);
  EXPECT_EQ(read_tensor<char>(*checkpoint, "a")[0], 'a');  // not the one that file 1 has too
  EXPECT_EQ(read_tensor<char>(*checkpoint, "b")[0], 'b');
}

TEST(SafetensorsDirectory, a_listed_tensor_that_its_shard_lacks_is_an_error) {
  const TempDir dir;
  dir.write("x.safetensors", kA);
  dir.write("model.safetensors.index.json",
            R"({"weight_map":{"a":"x.safetensors","lost":"x.safetensors"}})");
  EXPECT_ERROR_SAYS(open_safetensors_directory(dir.path()), "x.safetensors", "lost", "missing");
}

TEST(SafetensorsDirectory, a_listed_file_that_is_not_there_is_an_error) {
  const TempDir dir;
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"y.safetensors"}})");
  EXPECT_ERROR_SAYS(open_safetensors_directory(dir.path()), "y.safetensors", "not there");
}

TEST(SafetensorsDirectory, file_names_with_paths_are_refused) {
  const TempDir outside;
  outside.write("a.safetensors", kA);
  const TempDir dir;
  for (const std::string& name :
       {std::string("../a.safetensors"), outside.path().string() + "/a.safetensors",
        std::string(".."), std::string(""), std::string("sub/a.safetensors"),
        std::string("a\\\\b.safetensors"), std::string("a\\u0000b")}) {
    dir.write("model.safetensors.index.json", R"({"weight_map":{"a":")" + name + R"("}})");
    SCOPED_TRACE(name);
    EXPECT_ERROR_SAYS(open_safetensors_directory(dir.path()), "plain name");
  }
}

TEST(SafetensorsDirectory, malformed_indexes_are_refused) {
  const TempDir dir;
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})",
                           R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":"x"})"}) {
    dir.write("model.safetensors.index.json", text);
    EXPECT_ERROR_SAYS(open_safetensors_directory(dir.path()), "model.safetensors.index.json");
  }
}

TEST(SafetensorsDirectory, shards_without_an_index_are_united) {
  const TempDir dir;
  dir.write("model-00001-of-00002.safetensors", kA);
  dir.write("model-00002-of-00002.safetensors",
            safetensors(R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", "bbbb"));
  dir.write("consolidated.00.pth.safetensors", "ignored");
  const Result<Checkpoint> checkpoint = open_safetensors_directory(dir.path());
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->tensors.size(), 2u);
  EXPECT_EQ(checkpoint->files.size(), 2u);
}

TEST(SafetensorsDirectory, the_same_tensor_in_two_shards_is_an_error) {
  const TempDir dir;
  dir.write("model-1.safetensors", kA);
  dir.write("model-2.safetensors", kB);
  EXPECT_ERROR_SAYS(open_safetensors_directory(dir.path()), "tensor a", "model-1.safetensors");
}

TEST(Checkpoint, a_lookup_says_what_was_expected_and_found) {
  const TempDir dir;
  dir.write("model.safetensors",
            safetensors(R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                        R"("i":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}})",
                        std::string(16, 'x')));
  const Result<Checkpoint> checkpoint = open_safetensors_directory(dir.path());
  ASSERT_OK(checkpoint);
  ASSERT_OK(checkpoint->find("a", {1, 2}));
  EXPECT_ERROR_SAYS(checkpoint->find("a", {2, 1}), "model.safetensors", "tensor a", "[2, 1]",
                    "[1, 2]");
  EXPECT_ERROR_SAYS(checkpoint->find("c", {2}), "tensor c", "missing", dir.path().string());
  EXPECT_ERROR_SAYS(checkpoint->find("i", {1}), "tensor i", "I64", "BF16");
}

}  // namespace
}  // namespace donar::model::test
