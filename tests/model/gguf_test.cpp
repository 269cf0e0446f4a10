// GGUF: every metadata type and element type, split files, and what a reader must refuse.
#include <gtest/gtest.h>

#include "model/ggml_types.h"
#include "tests/model/test_files.h"

namespace donar::model::test {
namespace {

GgufWriter small_file() {
  GgufWriter writer;
  writer.text("general.architecture", "llama").u32("llama.block_count", 1);
  writer.tensor("a", {4, 2}, 0, std::string(32, 'a'))
      .tensor("b", {32, 3}, 8, std::string(3 * 34, 'b'));
  return writer;
}

Result<Checkpoint> open_bytes(const std::string& bytes) {
  const TempDir dir;
  return open_gguf(dir.write("model.gguf", bytes));  // the open file outlives its name
}

template <class T>
T value(const Checkpoint& checkpoint, const std::string& key) {
  const auto found = checkpoint.metadata.find(key);
  EXPECT_NE(found, checkpoint.metadata.end()) << key;
  if (found == checkpoint.metadata.end() || !std::holds_alternative<T>(found->second)) {
    ADD_FAILURE() << key << " has another type";
    return {};
  }
  return std::get<T>(found->second);
}

TEST(Gguf, reads_every_metadata_type) {
  const Result<Checkpoint> file = open_gguf(data_dir() / "types.gguf");
  ASSERT_OK(file);
  EXPECT_EQ(value<uint64_t>(*file, "golden.u8"), 200u);
  EXPECT_EQ(value<int64_t>(*file, "golden.i8"), -3);
  EXPECT_EQ(value<uint64_t>(*file, "golden.u16"), 65535u);
  EXPECT_EQ(value<int64_t>(*file, "golden.i16"), -32768);
  EXPECT_EQ(value<uint64_t>(*file, "golden.u32"), 4000000000u);
  EXPECT_EQ(value<int64_t>(*file, "golden.i32"), -5);
  EXPECT_EQ(value<uint64_t>(*file, "golden.u64"), (uint64_t{1} << 63) + 1);
  EXPECT_EQ(value<int64_t>(*file, "golden.i64"), -(int64_t{1} << 62));
  EXPECT_EQ(value<double>(*file, "golden.f32"), double{0.1f});
  EXPECT_EQ(value<double>(*file, "golden.f64"), 0.1);
  EXPECT_TRUE(value<bool>(*file, "golden.true"));
  EXPECT_FALSE(value<bool>(*file, "golden.false"));
  EXPECT_EQ(value<std::string>(*file, "golden.string"),
            std::string("Z\xc3\xbcrich \0 \n \xf0\x9f\xa6\x99", 16));
  EXPECT_EQ(value<std::vector<int64_t>>(*file, "golden.array_i32"),
            (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(value<std::vector<double>>(*file, "golden.array_f32"),
            (std::vector<double>{0.5, -1.25}));
  EXPECT_EQ(value<std::vector<std::string>>(*file, "golden.array_string"),
            (std::vector<std::string>{"a", "",
                                      "\xc4\xa0"
                                      "b",
                                      "\xe6\x97\xa5\xe6\x9c\xac"}));
  EXPECT_EQ(value<std::vector<int64_t>>(*file, "golden.array_bool"),
            (std::vector<int64_t>{1, 0, 1}));
}

TEST(Gguf, knows_every_element_type_by_name_and_size) {
  const Result<Checkpoint> file = open_gguf(data_dir() / "types.gguf");
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 26u);
  for (const auto& [name, entry] : file->tensors) {
    if (name.starts_with("quantised.")) continue;
    std::string lower = entry.stored_type;
    for (char& c : lower) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(lower, name);
  }
  EXPECT_EQ(file->tensors.at("q6_k").shape, (std::vector<int64_t>{3, 256}));
  EXPECT_EQ(file->tensors.at("q6_k").bytes, 630u);
  EXPECT_TRUE(file->tensors.at("q6_k").supported);
  EXPECT_EQ(file->tensors.at("q6_k").format, quant::Format::kQ6_K);
  for (const char* name : {"q4_0", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k"})
    EXPECT_TRUE(file->tensors.at(name).supported) << name;
  EXPECT_FALSE(file->tensors.at("mxfp4").supported);  // an error only where a model needs it
  EXPECT_ERROR_SAYS(file->find("mxfp4", {3, 64}), "types.gguf", "mxfp4", "MXFP4", "Q4_1");
  for (uint32_t id : {4u, 5u, 31u, 33u, 36u, 38u, 43u, 255u})
    EXPECT_EQ(find_ggml_type(id), nullptr) << id;
}

TEST(Gguf, accepts_versions_2_and_3_and_explains_the_others) {
  GgufWriter writer = small_file();
  for (const uint32_t version : {2u, 3u}) {
    writer.version = version;
    EXPECT_TRUE(open_bytes(writer.bytes()).has_value()) << version;
  }
  writer.version = 1;
  EXPECT_ERROR_SAYS(open_bytes(writer.bytes()), "version 1", "expected 2 or 3");
  writer.version = 4;
  EXPECT_ERROR_SAYS(open_bytes(writer.bytes()), "version 4");
  writer.version = 0x03000000;
  EXPECT_ERROR_SAYS(open_bytes(writer.bytes()), "big-endian");
}

TEST(Gguf, honours_another_alignment) {
  GgufWriter writer;
  writer.alignment = 128;
  writer.text("general.architecture", "llama").u32("general.alignment", 128);
  writer.tensor("a", {3}, 0, std::string(12, 'a')).tensor("b", {3}, 0, std::string(12, 'b'));
  const Result<Checkpoint> file = open_bytes(writer.bytes());
  ASSERT_OK(file);
  EXPECT_EQ(file->tensors.at("b").offset - file->tensors.at("a").offset, 128u);
  EXPECT_EQ(read_tensor<char>(*file, "b")[0], 'b');
}

TEST(Gguf, a_scalar_has_no_dimensions) {
  GgufWriter writer;
  writer.tensor("s", {}, 0, std::string(4, 's'));
  const Result<Checkpoint> file = open_bytes(writer.bytes());
  ASSERT_OK(file);
  EXPECT_TRUE(file->tensors.at("s").shape.empty());
  EXPECT_EQ(file->tensors.at("s").bytes, 4u);
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* says;
};

std::string little(uint64_t value) {
  std::string out;
  append(out, value);
  return out;
}

std::vector<BadFile> bad_files() {
  const std::string f32(4, '0');
  const auto w = [] { return GgufWriter(); };
  std::string huge_tensor_count = small_file().bytes(), huge_key_count = huge_tensor_count;
  const uint64_t huge = uint64_t{1} << 62;
  std::memcpy(huge_tensor_count.data() + 8, &huge, 8);
  std::memcpy(huge_key_count.data() + 16, &huge, 8);
  std::string negative = small_file().bytes();
  std::memset(negative.data() + 8, 0xff, 8);
  std::string array_head;
  append(array_head, int32_t{4});
  std::string nested;
  append(nested, int32_t{9});
  nested += little(1);
  return {
      {"empty", "", "truncated"},
      {"other magic", "GGML" + std::string(60, '\0'), "GGUF"},
      {"lfs pointer", "version https://git-lfs.github.com/spec/v1\n", "Git LFS"},
      {"2^62 tensors", huge_tensor_count, "tensors do not fit"},
      {"2^62 keys", huge_key_count, "keys do not fit"},
      {"negative count", negative, "tensors do not fit"},
      {"empty key", w().u32("", 1).bytes(), "key is empty"},
      {"key twice", w().u32("k", 1).u32("k", 1).bytes(), "twice"},
      {"unknown value type", w().raw("k", 13, f32).bytes(), "value type 13"},
      {"negative value type", w().raw("k", -1, f32).bytes(), "value type -1"},
      {"string beyond the file", w().raw("k", 8, little(1000)).bytes(), "string of 1000 bytes"},
      {"string of 2^63 bytes", w().raw("k", 8, little(uint64_t{1} << 63)).bytes(), "string of"},
      {"array beyond the file", w().raw("k", 9, array_head + little(1u << 20)).bytes(), "array of"},
      {"array of 2^62", w().raw("k", 9, array_head + little(huge)).bytes(), "array of"},
      {"nested array", w().raw("k", 9, nested).bytes(), "elements of type 9"},
      {"alignment 0", w().u32("general.alignment", 0).bytes(), "power of two"},
      {"alignment 24", w().u32("general.alignment", 24).bytes(), "power of two"},
      {"alignment text", w().text("general.alignment", "32").bytes(), "power of two"},
      {"tensor without a name", w().tensor("", {1}, 0, f32).bytes(), "tensor name"},
      {"name of 64 bytes", w().tensor(std::string(64, 'n'), {1}, 0, f32).bytes(), "tensor name"},
      {"tensor twice", w().tensor("t", {1}, 0, f32).tensor("t", {1}, 0, f32).bytes(), "twice"},
      {"5 dimensions", w().tensor("t", {1, 1, 1, 1, 1}, 0, f32).bytes(), "5 dimensions"},
      {"negative dimension", w().tensor("t", {-1}, 0, f32).bytes(), "negative"},
      {"elements overflow", w().tensor("t", {int64_t{1} << 40, int64_t{1} << 40}, 0, f32).bytes(),
       "too large"},
      {"bytes overflow", w().tensor("t", {int64_t{1} << 62}, 0, f32).bytes(), "overflows"},
      {"removed type", w().tensor("t", {32}, 4, f32).bytes(), "type 4"},
      {"unknown type", w().tensor("t", {32}, 999, f32).bytes(), "type 999"},
      {"half a block", w().tensor("t", {48, 2}, 2, std::string(54, 'x')).bytes(), "multiple of 32"},
      {"offset with a hole", w().tensor_at("t", {1}, 0, 32, f32).bytes(),
       "expected offset 0, found 32"},
      {"overlap",
       w().tensor("t", {16}, 0, std::string(64, 'x')).tensor_at("u", {1}, 0, 32, f32).bytes(),
       "offset 64, found 32"},
      {"data beyond the file", w().tensor("t", {1000}, 0, f32).bytes(), "truncated"},
  };
}

TEST(Gguf, malformed_files_get_one_clear_error) {
  for (const BadFile& bad : bad_files()) {
    SCOPED_TRACE(bad.name);
    EXPECT_ERROR_SAYS(open_bytes(bad.bytes), "model.gguf", bad.says);
  }
}

TEST(Gguf, every_truncation_is_refused) {
  GgufWriter writer = small_file();
  writer.u32_array("k", {1, 2, 3});
  const std::string bytes = writer.bytes();
  const size_t end =
      bytes.size() - (128 - 3 * 34);  // padding behind the last tensor may be missing
  for (size_t size = 0; size < end; ++size)
    EXPECT_FALSE(open_bytes(bytes.substr(0, size)).has_value()) << size << " bytes of " << end;
  EXPECT_TRUE(open_bytes(bytes.substr(0, end)).has_value());
}

std::string part(uint16_t number, uint16_t count, uint32_t total, const std::string& tensor) {
  GgufWriter writer;
  if (number == 0) writer.text("general.architecture", "llama");
  writer.u16("split.no", number).u16("split.count", count).u32("split.tensors.count", total);
  return writer.tensor(tensor, {2}, 0, std::string(8, tensor[0])).bytes();
}

TEST(GgufSplit, parts_are_one_checkpoint) {
  const TempDir dir;
  const fs::path first = dir.write("m-00001-of-00003.gguf", part(0, 3, 3, "a"));
  dir.write("m-00002-of-00003.gguf", part(1, 3, 3, "b"));
  const fs::path third = dir.write("m-00003-of-00003.gguf", part(2, 3, 3, "c"));
  const Result<Checkpoint> file = open_gguf(first);
  ASSERT_OK(file);
  EXPECT_EQ(file->files.size(), 3u);
  for (const std::string name : {"a", "b", "c"})
    EXPECT_EQ(read_tensor<char>(*file, name)[0], name[0]);
  EXPECT_EQ(value<std::string>(*file, "general.architecture"), "llama");
  EXPECT_ERROR_SAYS(open_gguf(third), "part 3 of 3", "first");
}

TEST(GgufSplit, a_missing_wrong_or_renamed_part_is_named) {
  const TempDir dir;
  const fs::path first = dir.write("m-00001-of-00002.gguf", part(0, 2, 2, "a"));
  EXPECT_ERROR_SAYS(open_gguf(first), "m-00002-of-00002.gguf");
  const fs::path second = dir.write("m-00002-of-00002.gguf", part(1, 3, 2, "b"));
  EXPECT_ERROR_SAYS(open_gguf(first), second.string(), "split.count 2");
  dir.write("m-00002-of-00002.gguf", part(1, 2, 2, "a"));
  EXPECT_ERROR_SAYS(open_gguf(first), second.string(), "tensor a", "twice");
  dir.write("m-00001-of-00002.gguf", part(0, 2, 5, "a"));
  dir.write("m-00002-of-00002.gguf", part(1, 2, 5, "b"));
  EXPECT_ERROR_SAYS(open_gguf(first), "expected 5 tensors", "found 2");
  EXPECT_ERROR_SAYS(open_gguf(dir.write("renamed.gguf", part(0, 2, 2, "a"))),
                    "-00001-of-00002.gguf");
}

}  // namespace
}  // namespace donar::model::test
