// A pattern of a tokenizer.json component: a literal string, a known split pattern (hand scanner)
// or any other regular expression (PCRE2 with JIT).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/split_scanners.h"

namespace donar::text {

// Const after construction, thread-safe, move-only.
class SplitPattern {
 public:
  static SplitPattern literal(std::string text);
  // kUnsupported for an expression that does not compile here.
  static Result<SplitPattern> regex(std::string_view expression);

  // Replaces `matches` by the matches in `text` (valid UTF-8), left to right; an empty match has
  // begin == end.
  void find(std::string_view text, std::vector<Span>& matches) const;

  // Whether matches cover the whole text, so that there are no gaps.
  bool has_scanner() const { return scanner_ != nullptr; }

 private:
  struct CompiledDeleter {
    void operator()(void* code) const;
  };
  SplitPattern() = default;
  void find_by_regex(std::string_view text, std::vector<Span>& matches) const;

  std::string literal_;
  SplitScanner scanner_ = nullptr;
  std::unique_ptr<void, CompiledDeleter> compiled_;  // pcre2_code
};

}  // namespace donar::text
