#include "app/default_model.h"

#include <string>
#include <system_error>

namespace donar::app {

namespace fs = std::filesystem;

Result<fs::path> find_default_model(const fs::path& executable, const hub::CacheLocation& cache) {
  const std::string name = kDefaultModelName;
  const fs::path folder = executable.parent_path();
  for (const fs::path& models : {folder.parent_path() / ".cache" / "models", folder / "models"}) {
    std::error_code ignored;
    if (fs::exists(models / name / "config.json", ignored))
      return hub::resolve_model((models / name).string(), "", cache);
    const fs::path gguf = models / (name + ".Q4_1.gguf");
    if (fs::exists(gguf, ignored)) return gguf;
  }
  if (Result<fs::path> cached = hub::resolve_model("HuggingFaceTB/" + name, "", cache))
    return cached;
  return fail(ErrorCode::kNotFound,
              "no MODEL given, and the default model ({}) is not set up: run `./dev serve`, which "
              "fetches it, or give a directory, a "
              ".gguf file, or a repository id in the Hugging Face cache",
              name);
}

}  // namespace donar::app
