// A model's name to local files: a directory, a .gguf file, or a repository id that is already in
// the Hugging Face cache.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/error.h"

namespace donar::hub {

// The variables that decide where the cache is; read once in app/ (no behaviour in environment
// variables below it).
struct CacheLocation {
  std::filesystem::path hub_cache;  // the folder that holds models--ORG--NAME
};
// HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME as huggingface_hub reads them.
CacheLocation cache_location(const std::map<std::string, std::string>& environment);

// kNotFound says what was looked for and where, and what to do; partial snapshots and Git LFS
// pointers are named as such. needs_weights: false for seeded random weights, which want
// config.json alone. An empty revision means "main".
Result<std::filesystem::path> resolve_model(const std::string& model, const std::string& revision,
                                            const CacheLocation& cache, bool needs_weights = true);

}  // namespace donar::hub
