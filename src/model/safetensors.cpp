// safetensors: one file's header, as strict as the reference reader (huggingface/safetensors,
// safetensors/src/tensor.rs), and the rules of a model directory. The one translation unit of this
// folder that includes simdjson.
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "model/checkpoint.h"

namespace donar::model {
namespace {

namespace fs = std::filesystem;
namespace dom = simdjson::dom;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's cap
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kLfsPrefix = "version https://git-lfs";

struct StoredType {
  std::string_view name;
  uint64_t bits;
  std::optional<quant::Format> format;
};

constexpr std::array kStoredTypes = {
    StoredType{"BOOL", 8, {}},
    StoredType{"F4", 4, {}},
    StoredType{"F6_E2M3", 6, {}},
    StoredType{"F6_E3M2", 6, {}},
    StoredType{"U8", 8, {}},
    StoredType{"I8", 8, {}},
    StoredType{"F8_E5M2", 8, {}},
    StoredType{"F8_E4M3", 8, {}},
    StoredType{"F8_E8M0", 8, {}},
    StoredType{"F8_E4M3FNUZ", 8, {}},
    StoredType{"F8_E5M2FNUZ", 8, {}},
    StoredType{"I16", 16, {}},
    StoredType{"U16", 16, {}},
    StoredType{"F16", 16, quant::Format::kF16},
    StoredType{"BF16", 16, quant::Format::kBF16},
    StoredType{"I32", 32, {}},
    StoredType{"U32", 32, {}},
    StoredType{"F32", 32, quant::Format::kF32},
    StoredType{"C64", 64, {}},
    StoredType{"F64", 64, {}},
    StoredType{"I64", 64, {}},
    StoredType{"U64", 64, {}},
};

const StoredType* find_stored_type(std::string_view name) {
  for (const StoredType& type : kStoredTypes)
    if (type.name == name) return &type;
  return nullptr;
}

// A tensor of the header before its offsets are checked; begin and end count from the end of the
// header.
struct Record {
  TensorEntry entry;
  uint64_t bits = 0;  // of one element
  uint64_t begin = 0;
  uint64_t end = 0;
};

tl::unexpected<Error> header_error(const fs::path& path, std::string_view detail) {
  return fail(ErrorCode::kDataLoss, "{}: invalid safetensors header: {}", path.string(), detail);
}

bool read_unsigned(dom::element value, uint64_t* out) {
  return value.get_uint64().get(*out) == simdjson::SUCCESS;
}

Result<Record> read_record(const fs::path& path, std::string_view name, dom::element value) {
  dom::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS)
    return header_error(path, fmt::format("tensor {}: expected an object", name));
  Record record;
  record.entry.name = name;
  bool has_dtype = false, has_shape = false, has_offsets = false;
  for (const auto field : object) {
    if (field.key == "dtype") {
      std::string_view text;
      if (has_dtype || field.value.get_string().get(text) != simdjson::SUCCESS)
        return header_error(path,
                            fmt::format("tensor {}: dtype is no string, or given twice", name));
      const StoredType* type = find_stored_type(text);
      if (!type) return header_error(path, fmt::format("tensor {}: unknown dtype {}", name, text));
      record.entry.stored_type = type->name;
      record.entry.supported = type->format.has_value();
      record.entry.format = type->format.value_or(quant::Format::kF32);
      record.bits = type->bits;
      has_dtype = true;
    } else if (field.key == "shape") {
      dom::array dims;
      if (has_shape || field.value.get_array().get(dims) != simdjson::SUCCESS)
        return header_error(path, fmt::format("tensor {}: shape is no list, or given twice", name));
      for (const dom::element dim : dims) {
        uint64_t extent = 0;
        if (!read_unsigned(dim, &extent) || extent > uint64_t{std::numeric_limits<int64_t>::max()})
          return header_error(path,
                              fmt::format("tensor {}: a dimension is no whole number >= 0", name));
        record.entry.shape.push_back(static_cast<int64_t>(extent));
      }
      has_shape = true;
    } else if (field.key == "data_offsets") {
      dom::array offsets;
      if (has_offsets || field.value.get_array().get(offsets) != simdjson::SUCCESS)
        return header_error(
            path, fmt::format("tensor {}: data_offsets is no list, or given twice", name));
      std::array<uint64_t, 2> bounds{};
      size_t count = 0;
      for (const dom::element offset : offsets) {
        if (count == bounds.size() || !read_unsigned(offset, &bounds[count]))
          return header_error(
              path, fmt::format("tensor {}: data_offsets must be two whole numbers >= 0", name));
        ++count;
      }
      if (count != bounds.size())
        return header_error(
            path, fmt::format("tensor {}: data_offsets must be two whole numbers >= 0", name));
      std::tie(record.begin, record.end) = std::tie(bounds[0], bounds[1]);
      has_offsets = true;
    }
  }
  if (!has_dtype || !has_shape || !has_offsets)
    return header_error(path, fmt::format("tensor {}: {} is missing", name,
                                          !has_dtype   ? "dtype"
                                          : !has_shape ? "shape"
                                                       : "data_offsets"));
  return record;
}

Result<void> check_metadata(const fs::path& path, dom::element value) {
  if (value.is_null()) return {};
  dom::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS)
    return header_error(path, "__metadata__ is no object");
  for (const auto field : object)
    if (!field.value.is_string())
      return header_error(path, fmt::format("__metadata__: {} is no string", field.key));
  return {};
}

// Bytes of the tensor; multiplied left to right as the reference reader does, so that the same
// shapes overflow.
Result<uint64_t> record_bytes(const fs::path& path, const Record& record) {
  uint64_t total = 1;
  bool overflow = false;
  for (const int64_t dim : record.entry.shape)
    overflow = overflow || __builtin_mul_overflow(total, static_cast<uint64_t>(dim), &total);
  overflow = overflow || __builtin_mul_overflow(total, record.bits, &total);
  if (overflow)
    return header_error(path, fmt::format("tensor {}: the size of shape {} overflows",
                                          record.entry.name, shape_text(record.entry.shape)));
  if (total % 8 != 0)
    return header_error(
        path,
        fmt::format("tensor {}: {} of shape {} does not end at a byte boundary", record.entry.name,
                    record.entry.stored_type, shape_text(record.entry.shape)));
  return total / 8;
}

// The data must be covered exactly: no holes, no overlaps, nothing after the last tensor.
Result<void> check_layout(const fs::path& path, std::vector<Record>& records, uint64_t header_bytes,
                          uint64_t file_bytes) {
  std::sort(records.begin(), records.end(), [](const Record& a, const Record& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const Record& record : records) {
    if (record.begin != expected || record.end < record.begin)
      return header_error(path,
                          fmt::format("tensor {}: expected data_offsets from {}, found [{}, {}]",
                                      record.entry.name, expected, record.begin, record.end));
    const Result<uint64_t> bytes = record_bytes(path, record);
    if (!bytes) return tl::unexpected(bytes.error());
    if (record.end - record.begin != *bytes)
      return header_error(path, fmt::format("tensor {}: {} of shape {} takes {} bytes, "
                                            "data_offsets [{}, {}] hold {}",
                                            record.entry.name, record.entry.stored_type,
                                            shape_text(record.entry.shape), *bytes, record.begin,
                                            record.end, record.end - record.begin));
    expected = record.end;
  }
  const uint64_t data_bytes = file_bytes - 8 - header_bytes;
  if (expected != data_bytes)
    return fail(ErrorCode::kDataLoss,
                "{}: the header describes {} bytes of data, the file holds {}: it is {}; download "
                "it again",
                path.string(), expected, data_bytes,
                expected > data_bytes ? "truncated" : "longer than its header says");
  return {};
}

Result<std::vector<Record>> read_header(const File& file) {
  const fs::path& path = file.path();
  std::array<char, 8> prefix{};
  if (file.size() < prefix.size())
    return fail(ErrorCode::kDataLoss,
                "{}: header too small: {} bytes are no safetensors file; download it again",
                path.string(), file.size());
  Result<void> read = file.read_at(0, std::as_writable_bytes(std::span(prefix)));
  if (!read) return forward_error(read);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, prefix.data(), sizeof(header_bytes));
  if (std::string_view(prefix.data(), prefix.size()) == kLfsPrefix.substr(0, prefix.size()))
    return fail(
        ErrorCode::kDataLoss,
        "{}: this is a Git LFS pointer, not the weights: run `git lfs pull` in its directory "
        "or download the file",
        path.string());
  if (header_bytes > kMaxHeaderBytes)
    return fail(ErrorCode::kDataLoss, "{}: header too large: {} bytes, at most {} are allowed",
                path.string(), header_bytes, kMaxHeaderBytes);
  if (header_bytes > file.size() - 8)
    return fail(ErrorCode::kDataLoss,
                "{}: invalid header length: {} bytes in a file of {}: the file is truncated or no "
                "safetensors file",
                path.string(), header_bytes, file.size());

  simdjson::padded_string text(static_cast<size_t>(header_bytes));
  read = file.read_at(8, std::as_writable_bytes(std::span(text.data(), text.size())));
  if (!read) return forward_error(read);
  dom::parser parser;
  dom::object object;
  const simdjson::error_code error = parser.parse(text).get_object().get(object);
  if (error != simdjson::SUCCESS) return header_error(path, simdjson::error_message(error));

  std::vector<Record> records;
  std::set<std::string_view> names;
  for (const auto field : object) {
    if (field.key == "__metadata__") {
      const Result<void> metadata = check_metadata(path, field.value);
      if (!metadata) return tl::unexpected(metadata.error());
      continue;
    }
    if (field.key.empty()) return header_error(path, "a tensor has no name");
    if (!names.insert(field.key).second)
      return header_error(path, fmt::format("tensor {} is listed twice", field.key));
    Result<Record> record = read_record(path, field.key, field.value);
    if (!record) return forward_error(record);
    records.push_back(std::move(*record));
  }
  const Result<void> layout = check_layout(path, records, header_bytes, file.size());
  if (!layout) return tl::unexpected(layout.error());
  for (Record& record : records) {
    record.entry.offset = 8 + header_bytes + record.begin;
    record.entry.bytes = record.end - record.begin;
  }
  return records;
}

Result<void> add_file(const fs::path& path, Checkpoint& checkpoint,
                      const std::map<std::string, std::string>* weight_map) {
  Result<File> file = File::open(path);
  if (!file) return forward_error(file);
  Result<std::vector<Record>> records = read_header(*file);
  if (!records) return forward_error(records);
  const int index = static_cast<int>(checkpoint.files.size());
  const std::string file_name = path.filename().string();
  for (Record& record : *records) {
    if (weight_map) {  // what the index gives to another shard, or does not list, is not this
                       // file's
      const auto listed = weight_map->find(record.entry.name);
      if (listed == weight_map->end() || listed->second != file_name) continue;
    }
    record.entry.file = index;
    const auto [place, added] = checkpoint.tensors.try_emplace(record.entry.name);
    if (!added)
      return fail(ErrorCode::kDataLoss, "{}: tensor {} is also in {}", path.string(),
                  record.entry.name,
                  checkpoint.files[static_cast<size_t>(place->second.file)].path().string());
    place->second = std::move(record.entry);
  }
  checkpoint.files.push_back(std::move(*file));
  return {};
}

// weight_map of the index: tensor name -> file name. Files lie beside the index, so a name with a
// path in it is hostile.
Result<std::map<std::string, std::string>> read_weight_map(const fs::path& path) {
  const Result<std::string> text = read_text_file(path, kMaxIndexBytes);
  if (!text) return tl::unexpected(text.error());
  if (text->starts_with(kLfsPrefix))
    return fail(ErrorCode::kDataLoss, "{}: this is a Git LFS pointer: run `git lfs pull`",
                path.string());
  dom::parser parser;
  dom::object weight_map;
  const simdjson::error_code error = parser.parse(*text)["weight_map"].get_object().get(weight_map);
  if (error != simdjson::SUCCESS)
    return fail(ErrorCode::kDataLoss, "{}: expected an object with weight_map: {}", path.string(),
                simdjson::error_message(error));
  std::map<std::string, std::string> result;
  for (const auto field : weight_map) {
    std::string_view file;
    if (field.value.get_string().get(file) != simdjson::SUCCESS)
      return fail(ErrorCode::kDataLoss, "{}: weight_map: {} has no file name", path.string(),
                  field.key);
    if (file.empty() || file == "." || file.find("..") != std::string_view::npos ||
        file.find_first_of(std::string_view("/\\\0", 3)) != std::string_view::npos)
      return fail(
          ErrorCode::kDataLoss,
          "{}: weight_map: {} is in \"{}\": expected the plain name of a file beside the index",
          path.string(), field.key, file);
    const auto [place, added] = result.emplace(field.key, file);
    if (!added && place->second != file)
      return fail(ErrorCode::kDataLoss, "{}: weight_map: {} is in both {} and {}", path.string(),
                  field.key, place->second, file);
  }
  if (result.empty()) return fail(ErrorCode::kDataLoss, "{}: weight_map is empty", path.string());
  return result;
}

Result<void> add_indexed_files(const fs::path& directory, Checkpoint& checkpoint) {
  const fs::path index = directory / kIndexName;
  const Result<std::map<std::string, std::string>> weight_map = read_weight_map(index);
  if (!weight_map) return tl::unexpected(weight_map.error());
  std::set<std::string> names;
  for (const auto& [tensor, file] : *weight_map) names.insert(file);
  for (const std::string& name : names) {
    Result<void> added = add_file(directory / name, checkpoint, &*weight_map);
    if (!added && added.error().code == ErrorCode::kNotFound)
      return fail(ErrorCode::kNotFound, "{}: {} is named by {} but is not there: download it",
                  directory.string(), name, kIndexName);
    if (!added) return added;
  }
  for (const auto& [tensor, file] : *weight_map)
    if (!checkpoint.contains(tensor))
      return fail(ErrorCode::kDataLoss, "{}: tensor {} is missing, though {} says that it is there",
                  (directory / file).string(), tensor, kIndexName);
  return {};
}

}  // namespace

Result<void> index_safetensors(const fs::path& file, Checkpoint& checkpoint) {
  return add_file(file, checkpoint, /*weight_map=*/nullptr);
}

Result<Checkpoint> open_safetensors_directory(const fs::path& directory) {
  Checkpoint checkpoint;
  checkpoint.container = Checkpoint::Container::kSafetensors;
  checkpoint.path = directory;
  std::error_code error;
  if (fs::exists(directory / kIndexName, error)) {
    Result<void> added = add_indexed_files(directory, checkpoint);
    if (!added) return forward_error(added);
    return checkpoint;
  }
  std::vector<fs::path> files;
  if (fs::exists(directory / kSingleName, error)) {
    files.push_back(directory / kSingleName);
  } else {
    fs::directory_iterator entries(directory, error);
    if (error)
      return fail(ErrorCode::kNotFound, "cannot list {}: {}", directory.string(), error.message());
    for (; entries != fs::directory_iterator(); entries.increment(error)) {
      const fs::path& path = entries->path();
      // consolidated*: the same weights a second time, under Mistral's own names.
      if (path.extension() == ".safetensors" &&
          !path.filename().string().starts_with("consolidated"))
        files.push_back(path);
      if (error) break;
    }
    std::sort(files.begin(), files.end());
  }
  for (const fs::path& file : files) {
    Result<void> added = index_safetensors(file, checkpoint);
    if (!added) return forward_error(added);
  }
  return checkpoint;
}

}  // namespace donar::model
