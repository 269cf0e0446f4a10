// From files to a model that can run: the entry of the folder.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "model/checkpoint.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "tensor/exec.h"

namespace donar::model {

enum class LoadFormat { kAuto, kDummy };  // kDummy: seeded random weights of the config's shape

struct LoadOptions {
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<DType>
      dtype;  // kF32: the exact path; kBF16 or kF16: cast plain floats to it; nullopt: as stored
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)>
      on_progress;  // called from the loading thread; may be empty
};

// What a checkpoint says before its weights are read: enough for /v1/models, limits and memory
// sizing.
struct ModelFiles {
  Checkpoint checkpoint;
  ModelConfig config;
  json::object generation_config;  // empty if the file is absent
  std::string precision;  // "Q4_1", "BF16": the format of most weight bytes, for the page's badge
};

// A directory in Hugging Face layout or a .gguf file (of a split one: its first file). Reads config
// and indexes, no weights.
Result<ModelFiles> open_model(const std::filesystem::path& path);

// Streams all weights in file order through bounded staging into their packed form. Peak = packed
// weights + 256 MB.
Result<Weights> load_weights(Exec& ex, MemoryLedger& ledger, const ModelFiles& files,
                             const LoadOptions& options);

// Packed bytes that load_weights will take, for sizing before it runs.
Result<uint64_t> weight_bytes(const ModelFiles& files, const LoadOptions& options);

}  // namespace donar::model
