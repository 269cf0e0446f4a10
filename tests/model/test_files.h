// Files for tests of this folder: temporary directories, small checkpoints written byte by byte,
// and the tensors of golden files.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint.h"
#include "model/model.h"

namespace donar::model::test {

namespace fs = std::filesystem;

inline fs::path data_dir() { return fs::path(DONAR_TEST_DATA) / "model"; }
inline fs::path tiny(const std::string& name) { return data_dir() / "tiny" / name; }

// A directory of its own that goes away with the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (fs::path(testing::TempDir()) / "donar_model_XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed: " + pattern);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const fs::path& path() const { return path_; }
  fs::path write(const std::string& name, const std::string& bytes) const {
    const fs::path file = path_ / name;
    std::ofstream(file, std::ios::binary) << bytes;
    return file;
  }

 private:
  fs::path path_;
};

inline std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// header and data as one safetensors file.
inline std::string safetensors(const std::string& header, const std::string& data) {
  std::string out;
  append(out, uint64_t{header.size()});
  return out + header + data;
}

// Writes GGUF files, correct or not: every field can be set to nonsense through `raw`.
class GgufWriter {
 public:
  uint32_t version = 3;
  uint32_t alignment = 32;

  GgufWriter& text(const std::string& key, const std::string& value) {
    begin_value(key, 8);
    string(metadata_, value);
    return *this;
  }
  GgufWriter& u32(const std::string& key, uint32_t value) { return number(key, 4, value); }
  GgufWriter& u16(const std::string& key, uint16_t value) { return number(key, 2, value); }
  GgufWriter& f32(const std::string& key, float value) { return number(key, 6, value); }
  GgufWriter& u32_array(const std::string& key, const std::vector<uint32_t>& values) {
    begin_value(key, 9);
    append(metadata_, int32_t{4});
    append(metadata_, uint64_t{values.size()});
    for (const uint32_t value : values) append(metadata_, value);
    return *this;
  }
  // `value` as it will lie in the file, of a type that may not exist.
  GgufWriter& raw(const std::string& key, int32_t type, const std::string& value) {
    begin_value(key, type);
    metadata_ += value;
    return *this;
  }
  // ne: fastest dimension first, as in the file.
  GgufWriter& tensor(const std::string& name, const std::vector<int64_t>& ne, uint32_t type,
                     const std::string& data) {
    return tensor_at(name, ne, type, data_.size(), data);
  }
  GgufWriter& tensor_at(const std::string& name, const std::vector<int64_t>& ne, uint32_t type,
                        uint64_t offset, const std::string& data) {
    string(infos_, name);
    append(infos_, static_cast<uint32_t>(ne.size()));
    for (const int64_t dim : ne) append(infos_, dim);
    append(infos_, type);
    append(infos_, offset);
    data_ += data;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    ++num_tensors_;
    return *this;
  }

  std::string bytes() const {
    std::string out = "GGUF";
    append(out, version);
    append(out, num_tensors_);
    append(out, num_values_);
    out += metadata_ + infos_;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

  static void string(std::string& out, const std::string& value) {
    append(out, uint64_t{value.size()});
    out += value;
  }

 private:
  template <class T>
  GgufWriter& number(const std::string& key, int32_t type, T value) {
    begin_value(key, type);
    append(metadata_, value);
    return *this;
  }
  void begin_value(const std::string& key, int32_t type) {
    string(metadata_, key);
    append(metadata_, type);
    ++num_values_;
  }

  std::string metadata_, infos_, data_;
  int64_t num_tensors_ = 0, num_values_ = 0;
};

// A tensor of a golden file as floats or integers.
template <class T>
std::vector<T> read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.tensors.find(name);
  EXPECT_NE(found, checkpoint.tensors.end()) << name;
  if (found == checkpoint.tensors.end()) return {};
  std::vector<T> values(found->second.bytes / sizeof(T));
  const File& file = checkpoint.files[static_cast<size_t>(found->second.file)];
  const Result<void> read =
      file.read_at(found->second.offset, std::as_writable_bytes(std::span(values)));
  EXPECT_TRUE(read.has_value()) << name;
  return values;
}

inline Checkpoint open_golden(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  const Result<void> indexed = index_safetensors(path, checkpoint);
  EXPECT_TRUE(indexed.has_value()) << (indexed ? "" : indexed.error().message);
  return checkpoint;
}

template <class T>
void expect_error_says(const Result<T>& result, std::initializer_list<std::string> words) {
  ASSERT_FALSE(result.has_value()) << "an error was expected";
  for (const std::string& word : words)
    EXPECT_NE(result.error().message.find(word), std::string::npos)
        << "\"" << word << "\" is not in: " << result.error().message;
}

}  // namespace donar::model::test

// The value of a Result, or the test ends with its message.
#define ASSERT_OK(result) ASSERT_TRUE((result).has_value()) << (result).error().message
// An error that says each of these words.
#define EXPECT_ERROR_SAYS(result, ...)                              \
  do {                                                              \
    SCOPED_TRACE(#result);                                          \
    ::donar::model::test::expect_error_says(result, {__VA_ARGS__}); \
  } while (false)
