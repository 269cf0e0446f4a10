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

// Streams all weights in file order through bounded staging into their packed form, in the memory
// of `ledger`, which is that of the exec's device. Peak = packed weights + 256 MB. On CUDA,
// matrices become ex.activation, pinned staging is counted in `host_ledger`, and CudaError is
// thrown.
Result<Weights> load_weights(Exec& ex, MemoryLedger& ledger, const ModelFiles& files,
                             const LoadOptions& options, MemoryLedger* host_ledger = nullptr);

// The weights as load_weights will lay them out for the exec's device, with null pointers: for
// sizing before anything is allocated.
Result<Weights> plan_weights(const Exec& ex, const ModelFiles& files, const LoadOptions& options);

// Packed bytes that load_weights will take on the CPU.
Result<uint64_t> weight_bytes(const ModelFiles& files, const LoadOptions& options);

// What Exec::activation is on CUDA: the 16-bit type of the checkpoint. F16 if it is asked for or
// there is nothing but F16 and F32, else BF16. kUnsupported for float32.
Result<DType> cuda_dtype(const ModelFiles& files, const LoadOptions& options);

}  // namespace donar::model
