// Lookups in a checkpoint's index: a tensor is what the model expects or the error says what was
// found.
#include "model/checkpoint.h"

#include <fmt/ranges.h>

#include "model/ggml_types.h"

namespace donar::model {

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<const TensorEntry*> Checkpoint::find(std::string_view name,
                                            const std::vector<int64_t>& shape) const {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    return fail(ErrorCode::kDataLoss,
                "{}: tensor {} {} is missing: the checkpoint is incomplete or its config.json is "
                "another model's",
                path.string(), name, shape_text(shape));
  const TensorEntry& entry = found->second;
  const std::string file = files[static_cast<size_t>(entry.file)].path().string();
  if (entry.shape != shape)
    return fail(ErrorCode::kDataLoss, "{}: tensor {}: expected shape {}, found {} ({})", file, name,
                shape_text(shape), shape_text(entry.shape), entry.stored_type);
  if (!entry.supported)
    return fail(ErrorCode::kUnsupported,
                "{}: tensor {} is stored as {}, which is not supported yet: expected one of {}",
                file, name, entry.stored_type, supported_format_names());
  return &entry;
}

}  // namespace donar::model
