// Reads the vocabulary of a GGUF file for tests: only the keys tokenizer.ggml.*, and it trusts the
// file.
#pragma once

#include <filesystem>
#include <optional>

#include "text/tokenizer.h"

namespace donar::text {

// nullopt if the file cannot be read as GGUF version 2 or 3.
std::optional<GgufVocabulary> read_gguf_vocabulary(const std::filesystem::path& path);

}  // namespace donar::text
