// An index of a checkpoint, not its memory: name -> dtype, shape, file, offset, bytes; plus GGUF
// metadata.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"
#include "quant/format.h"

namespace donar::model {

// Where one tensor lies. Shapes are row-major, slowest first: a weight is [out, in] in both
// containers.
struct TensorEntry {
  std::string name;
  quant::Format format = quant::Format::kF32;  // valid if `supported`
  std::string stored_type;                     // as the file names it: "BF16", "Q4_K", "I64"
  bool supported =
      true;  // false: a type without a weight format here; an error only if the tensor is needed
  std::vector<int64_t> shape;
  int file = 0;         // index into Checkpoint::files
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

// GGUF metadata value. Arrays keep one of the three shapes that occur.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

std::string shape_text(const std::vector<int64_t>& shape);  // "[49152, 576]"

struct Checkpoint {
  enum class Container { kSafetensors, kGguf };
  Container container = Container::kSafetensors;
  std::filesystem::path path;  // the directory or the .gguf file
  std::vector<File> files;
  std::map<std::string, TensorEntry, std::less<>> tensors;
  std::map<std::string, GgufValue, std::less<>> metadata;  // GGUF only

  // The entry of `name` if dtype and shape are as wanted; else kDataLoss (kUnsupported for a type
  // without a weight format) that names file, tensor, expected and found.
  Result<const TensorEntry*> find(std::string_view name, const std::vector<int64_t>& shape) const;
  bool contains(std::string_view name) const { return tensors.find(name) != tensors.end(); }
};

// safetensors.cpp: one file's header, checked in the order of the reference reader and as strict.
// Appends to `checkpoint`.
Result<void> index_safetensors(const std::filesystem::path& file, Checkpoint& checkpoint);
// A directory: the index and exactly the files it names, or model.safetensors, or else every
// *.safetensors. A directory without any of them gives a checkpoint without files: enough for dummy
// weights.
Result<Checkpoint> open_safetensors_directory(const std::filesystem::path& directory);
// gguf.cpp: version 2 or 3, split files included.
Result<Checkpoint> open_gguf(const std::filesystem::path& file);

}  // namespace donar::model
