// The only place that reads environment variables; everything below gets plain values.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "app/options.h"
#include "hub/resolve.h"

namespace donar::app {

std::map<std::string, std::string> environment();
std::filesystem::path executable_path();

// --download-dir, else the variables of the Hugging Face hub.
hub::CacheLocation model_cache(const Options& options);

// DONAR_API_KEY and VLLM_API_KEY, where --api-key gives none.
std::vector<std::string> api_keys_from(const std::map<std::string, std::string>& environment);

}  // namespace donar::app
