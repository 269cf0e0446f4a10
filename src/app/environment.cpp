#include "app/environment.h"

#include <unistd.h>

#include <system_error>

namespace donar::app {

std::map<std::string, std::string> environment() {
  std::map<std::string, std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

std::filesystem::path executable_path() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored);
}

hub::CacheLocation model_cache(const Options& options) {
  if (!options.download_dir.empty()) return {options.download_dir};
  return hub::cache_location(environment());
}

std::vector<std::string> api_keys_from(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> keys;
  for (const char* name : {"DONAR_API_KEY", "VLLM_API_KEY"})
    if (const auto it = environment.find(name); it != environment.end() && !it->second.empty())
      keys.push_back(it->second);
  return keys;
}

}  // namespace donar::app
