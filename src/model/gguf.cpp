// GGUF (ggml-org/ggml, docs/gguf.md), versions 2 and 3: metadata and the index of tensors, split
// files included. Every length is checked against what is left of the file before anything of that
// size is made.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "model/checkpoint.h"
#include "model/ggml_types.h"

namespace donar::model {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "GGUF fields are read as they lie");

constexpr uint64_t kMaxStringBytes = uint64_t{1} << 30;  // the reference reader's bounds
constexpr uint64_t kMaxArrayCount = uint64_t{1} << 30;
constexpr size_t kMaxTensorName = 64;  // its terminator included
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 24;
constexpr int kMaxSplits = 9999;

enum ValueType : int32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
  kNumValueTypes
};

// Reads forward through a buffer of one file. The first failure sticks: reads after it give zeros,
// and the caller asks once.
class Cursor {
 public:
  explicit Cursor(const File& file) : file_(file) {}

  template <class T>
  T read() {
    T value{};
    copy(&value, sizeof(T));
    return value;
  }

  std::string read_string() {
    const uint64_t length = read<uint64_t>();
    if (length > kMaxStringBytes || length > left()) {
      set_error(fmt::format("a string of {} bytes at byte {} does not fit into the file", length,
                            position_ - 8));
      return {};
    }
    std::string text(static_cast<size_t>(length), '\0');
    copy(text.data(), text.size());
    return text;
  }

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  void set_error(std::string message) {
    if (error_.empty()) error_ = std::move(message);
  }

 private:
  void copy(void* out, size_t bytes) {
    if (failed()) return;
    if (bytes > left()) {
      set_error(fmt::format("the file ends at byte {}, {} bytes wanted from {}: it is truncated",
                            file_.size(), bytes, position_));
      return;
    }
    auto* to = static_cast<std::byte*>(out);
    while (bytes > 0) {
      if (position_ < begin_ || position_ >= begin_ + buffer_.size()) {
        begin_ = position_;
        buffer_.resize(static_cast<size_t>(std::min<uint64_t>(left(), size_t{1} << 20)));
        const Result<void> read = file_.read_at(begin_, buffer_);
        if (!read) {
          set_error(read.error().message);
          return;
        }
      }
      const size_t from = static_cast<size_t>(position_ - begin_);
      const size_t count = std::min(bytes, buffer_.size() - from);
      std::memcpy(to, buffer_.data() + from, count);
      to += count;
      position_ += count;
      bytes -= count;
    }
  }

  const File& file_;
  uint64_t position_ = 0;
  uint64_t begin_ = 0;  // file offset of buffer_
  std::vector<std::byte> buffer_;
  std::string error_;
};

uint64_t value_bytes(int32_t type) {  // the least that a value takes
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    default:
      return 8;
  }
}

int64_t saturate(uint64_t value) {
  return static_cast<int64_t>(
      std::min<uint64_t>(value, uint64_t{std::numeric_limits<int64_t>::max()}));
}

int64_t read_integer(Cursor& in, int32_t type) {
  switch (type) {
    case kU8:
      return in.read<uint8_t>();
    case kI8:
      return in.read<int8_t>();
    case kU16:
      return in.read<uint16_t>();
    case kI16:
      return in.read<int16_t>();
    case kU32:
      return in.read<uint32_t>();
    case kI32:
      return in.read<int32_t>();
    case kBool:
      return in.read<int8_t>() != 0;
    case kU64:
      return saturate(in.read<uint64_t>());
    default:
      return in.read<int64_t>();
  }
}

double read_real(Cursor& in, int32_t type) {
  return type == kF32 ? double{in.read<float>()} : in.read<double>();
}

GgufValue read_array(Cursor& in) {
  const int32_t type = in.read<int32_t>();
  const uint64_t count = in.read<uint64_t>();
  if (type < 0 || type >= kNumValueTypes || type == kArray) {
    in.set_error(fmt::format("an array holds elements of type {}, which no reader knows", type));
    return {};
  }
  if (count > kMaxArrayCount || count > in.left() / value_bytes(type)) {
    in.set_error(fmt::format("an array of {} elements at byte {} does not fit into the file", count,
                             in.position()));
    return {};
  }
  if (type == kString) {
    std::vector<std::string> values;
    for (uint64_t i = 0; i < count && !in.failed(); ++i) values.push_back(in.read_string());
    return values;
  }
  if (type == kF32 || type == kF64) {
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values) value = read_real(in, type);
    return values;
  }
  std::vector<int64_t> values(static_cast<size_t>(count));
  for (int64_t& value : values) value = read_integer(in, type);
  return values;
}

GgufValue read_value(Cursor& in, int32_t type) {
  switch (type) {
    case kU8:
    case kU16:
    case kU32:
      return static_cast<uint64_t>(read_integer(in, type));
    case kI8:
    case kI16:
    case kI32:
    case kI64:
      return read_integer(in, type);
    case kU64:
      return in.read<uint64_t>();
    case kF32:
    case kF64:
      return read_real(in, type);
    case kBool:
      return in.read<int8_t>() != 0;
    case kString:
      return in.read_string();
    case kArray:
      return read_array(in);
    default:
      in.set_error(fmt::format("value type {} is unknown", type));
      return {};
  }
}

// What one file says, before splits are put together.
struct GgufFile {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<TensorEntry> tensors;
};

tl::unexpected<Error> gguf_error(const File& file, std::string_view detail) {
  return fail(ErrorCode::kDataLoss, "{}: invalid GGUF file: {}", file.path().string(), detail);
}

// Dimensions stand fastest first in the file.
Result<TensorEntry> read_tensor(Cursor& in, const File& file) {
  TensorEntry entry;
  entry.name = in.read_string();
  const uint32_t num_dims = in.read<uint32_t>();
  if (in.failed()) return gguf_error(file, in.error());
  if (entry.name.empty() || entry.name.size() >= kMaxTensorName)
    return gguf_error(file, fmt::format("a tensor name has {} bytes, expected 1 to {}",
                                        entry.name.size(), kMaxTensorName - 1));
  if (num_dims > kMaxDims)
    return gguf_error(file, fmt::format("tensor {}: {} dimensions, expected at most {}", entry.name,
                                        num_dims, kMaxDims));
  int64_t elements = 1;
  for (uint32_t i = 0; i < num_dims; ++i) {
    const int64_t dim = in.read<int64_t>();
    if (dim < 0 || __builtin_mul_overflow(elements, dim, &elements))
      return gguf_error(file, fmt::format("tensor {}: dimension {} is negative or too large: {}",
                                          entry.name, i, dim));
    entry.shape.insert(entry.shape.begin(), dim);
  }
  const uint32_t type_id = in.read<uint32_t>();
  entry.offset = in.read<uint64_t>();
  if (in.failed()) return gguf_error(file, in.error());
  const GgmlType* type = find_ggml_type(type_id);
  if (!type)
    return gguf_error(file,
                      fmt::format("tensor {}: type {} is unknown or was removed from the format",
                                  entry.name, type_id));
  const int64_t row = num_dims > 0 ? entry.shape.back() : 1;
  if (row % type->block_values != 0)
    return gguf_error(file,
                      fmt::format("tensor {}: rows of {} values, expected a multiple of {} for {}",
                                  entry.name, row, type->block_values, type->name));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / type->block_values, int64_t{type->block_bytes}, &bytes))
    return gguf_error(file, fmt::format("tensor {}: the size of shape {} overflows", entry.name,
                                        shape_text(entry.shape)));
  entry.bytes = static_cast<uint64_t>(bytes);
  entry.stored_type = type->name;
  const std::optional<quant::Format> format = quant::format_of_ggml_type(type_id);
  entry.supported = format.has_value();
  entry.format = format.value_or(quant::Format::kF32);
  return entry;
}

Result<uint64_t> read_alignment(const GgufFile& parsed, const File& file) {
  const auto found = parsed.metadata.find("general.alignment");
  if (found == parsed.metadata.end()) return 32;
  const auto* value = std::get_if<uint64_t>(&found->second);
  if (!value || !std::has_single_bit(*value) || *value > kMaxAlignment)
    return gguf_error(
        file, fmt::format("general.alignment must be a power of two up to {}", kMaxAlignment));
  return *value;
}

Result<GgufFile> read_gguf(const File& file) {
  Cursor in(file);
  const auto magic = in.read<std::array<char, 4>>();
  if (in.failed()) return gguf_error(file, in.error());
  if (std::memcmp(magic.data(), "vers", 4) == 0)
    return fail(ErrorCode::kDataLoss,
                "{}: this is a Git LFS pointer, not the weights: run `git lfs pull` in its "
                "directory or download the file",
                file.path().string());
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    return gguf_error(file, "it does not begin with GGUF");
  const uint32_t version = in.read<uint32_t>();
  if (!in.failed() && (version & 0xffffu) == 0)
    return gguf_error(file, fmt::format("version {:#010x}: the file is big-endian", version));
  if (!in.failed() && (version < 2 || version > 3))
    return gguf_error(file, fmt::format("version {}, expected 2 or 3", version));
  const int64_t num_tensors = in.read<int64_t>();
  const int64_t num_values = in.read<int64_t>();
  if (in.failed()) return gguf_error(file, in.error());
  constexpr uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8, kLeastValueBytes = 8 + 1 + 4 + 1;
  if (num_tensors < 0 || static_cast<uint64_t>(num_tensors) > in.left() / kLeastTensorBytes)
    return gguf_error(file,
                      fmt::format("{} tensors do not fit into {} bytes", num_tensors, file.size()));
  if (num_values < 0 || static_cast<uint64_t>(num_values) > in.left() / kLeastValueBytes)
    return gguf_error(
        file, fmt::format("{} metadata keys do not fit into {} bytes", num_values, file.size()));

  GgufFile parsed;
  for (int64_t i = 0; i < num_values; ++i) {
    std::string key = in.read_string();
    const int32_t type = in.read<int32_t>();
    if (!in.failed() && key.empty()) in.set_error("a metadata key is empty");
    if (!in.failed() && parsed.metadata.contains(key))
      in.set_error(fmt::format("metadata key {} is given twice", key));
    if (in.failed()) return gguf_error(file, in.error());
    GgufValue value = read_value(in, type);
    if (in.failed()) return gguf_error(file, fmt::format("metadata key {}: {}", key, in.error()));
    parsed.metadata.emplace(std::move(key), std::move(value));
  }
  const Result<uint64_t> alignment = read_alignment(parsed, file);
  if (!alignment) return tl::unexpected(alignment.error());

  for (int64_t i = 0; i < num_tensors; ++i) {
    Result<TensorEntry> entry = read_tensor(in, file);
    if (!entry) return forward_error(entry);
    parsed.tensors.push_back(std::move(*entry));
  }
  const auto padded = [&](uint64_t bytes) { return (bytes + *alignment - 1) & ~(*alignment - 1); };
  const uint64_t data_begin = padded(in.position());
  const uint64_t data_bytes = file.size() > data_begin ? file.size() - data_begin : 0;
  uint64_t expected = 0;
  for (TensorEntry& entry : parsed.tensors) {
    if (entry.offset != expected)
      return gguf_error(file, fmt::format("tensor {}: expected offset {}, found {}", entry.name,
                                          expected, entry.offset));
    if (entry.bytes > 0 && (expected > data_bytes || entry.bytes > data_bytes - expected))
      return gguf_error(file,
                        fmt::format("tensor {}: {} bytes from {} do not fit into a file of {}: "
                                    "it is truncated; download it again",
                                    entry.name, entry.bytes, data_begin + expected, file.size()));
    entry.offset = data_begin + expected;
    expected = padded(expected + entry.bytes);  // at most the file's size + alignment: no overflow
  }
  return parsed;
}

Result<void> add_tensors(GgufFile&& parsed, File&& file, Checkpoint& checkpoint) {
  const int index = static_cast<int>(checkpoint.files.size());
  for (TensorEntry& entry : parsed.tensors) {
    entry.file = index;
    std::string name = entry.name;
    if (!checkpoint.tensors.emplace(name, std::move(entry)).second)
      return gguf_error(file, fmt::format("tensor {} is given twice", name));
  }
  checkpoint.files.push_back(std::move(file));
  return {};
}

int64_t metadata_integer(const GgufFile& parsed, std::string_view key, int64_t fallback) {
  const auto found = parsed.metadata.find(key);
  if (found == parsed.metadata.end()) return fallback;
  if (const auto* value = std::get_if<uint64_t>(&found->second)) return saturate(*value);
  if (const auto* value = std::get_if<int64_t>(&found->second)) return *value;
  return -1;
}

// NAME-00001-of-00003.gguf -> the path of part `part` (1-based); empty if the name has another
// form.
fs::path split_path(const fs::path& first, int64_t part, int64_t count) {
  const std::string name = first.filename().string();
  const std::string suffix = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(suffix)) return {};
  return first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf",
                                           name.substr(0, name.size() - suffix.size()), part,
                                           count);
}

}  // namespace

Result<Checkpoint> open_gguf(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.container = Checkpoint::Container::kGguf;
  checkpoint.path = path;
  Result<File> file = File::open(path);
  if (!file) return forward_error(file);
  Result<GgufFile> parsed = read_gguf(*file);
  if (!parsed) return forward_error(parsed);

  const int64_t count = metadata_integer(*parsed, "split.count", 1);
  const int64_t number = metadata_integer(*parsed, "split.no", 0);
  const int64_t total = metadata_integer(*parsed, "split.tensors.count", -1);
  if (count < 0 || count > kMaxSplits || number < 0 || number >= std::max<int64_t>(count, 1))
    return gguf_error(*file,
                      fmt::format("split.no {} of split.count {} makes no sense", number, count));
  if (number > 0)
    return fail(ErrorCode::kInvalidArgument,
                "{}: this is part {} of {}: give the path of the first part", path.string(),
                number + 1, count);
  checkpoint.metadata = std::move(parsed->metadata);
  Result<void> added = add_tensors(std::move(*parsed), std::move(*file), checkpoint);
  if (!added) return forward_error(added);

  for (int64_t part = 2; part <= count; ++part) {
    const fs::path part_path = split_path(path, part, count);
    if (part_path.empty())
      return fail(ErrorCode::kDataLoss,
                  "{}: the first of {} parts, expected a name that ends in -00001-of-{:05}.gguf",
                  path.string(), count, count);
    Result<File> part_file = File::open(part_path);
    if (!part_file) return forward_error(part_file);
    Result<GgufFile> part_parsed = read_gguf(*part_file);
    if (!part_parsed) return forward_error(part_parsed);
    if (metadata_integer(*part_parsed, "split.no", -1) != part - 1 ||
        metadata_integer(*part_parsed, "split.count", -1) != count)
      return gguf_error(*part_file,
                        fmt::format("expected split.no {} and split.count {}: it belongs "
                                    "to another model",
                                    part - 1, count));
    added = add_tensors(std::move(*part_parsed), std::move(*part_file), checkpoint);
    if (!added) return forward_error(added);
  }
  if (count > 1 && total >= 0 && total != static_cast<int64_t>(checkpoint.tensors.size()))
    return fail(ErrorCode::kDataLoss, "{}: expected {} tensors in {} parts, found {}",
                path.string(), total, count, checkpoint.tensors.size());
  return checkpoint;
}

}  // namespace donar::model
