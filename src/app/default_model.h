// The model that `./dev` fetches, for commands without MODEL.
#pragma once

#include <filesystem>

#include "base/error.h"
#include "hub/resolve.h"

namespace donar::app {

inline constexpr const char* kDefaultModelName = "SmolLM2-135M-Instruct";

// Looks in .cache/models beside the build folder of this executable, in models/ beside the
// executable, and in the Hugging Face cache.
Result<std::filesystem::path> find_default_model(const std::filesystem::path& executable,
                                                 const hub::CacheLocation& cache);

}  // namespace donar::app
