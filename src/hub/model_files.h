// Is everything there that a model needs? Broken links, Git LFS pointers and partial downloads are
// told apart, because each has its own cure. Used by resolve.cpp; what is inside the files is the
// loader's business.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"

namespace donar::hub {

struct DirectoryCheck {
  bool is_snapshot = false;  // of the cache: a missing file means a partial download
  bool needs_weights = true;
  std::string model;  // as the user named it, for the advice
};

// The directory itself, or the one .gguf file in it (of a split one: its first file).
Result<std::filesystem::path> check_directory(const std::filesystem::path& directory,
                                              const DirectoryCheck& check);
Result<std::filesystem::path> check_gguf_file(const std::filesystem::path& file);

}  // namespace donar::hub
