// What is behind Tokenizer, shared with StreamDecoder.
#pragma once

#include <memory>
#include <optional>

#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace donar::text {

struct Tokenizer::Impl {
  std::unique_ptr<const TokenizerParts> parts;

  std::optional<int32_t> named_id(const char* name) const;
};

}  // namespace donar::text
