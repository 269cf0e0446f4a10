// Normalizers of tokenizer.json, applied to the text between added tokens.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/split_pattern.h"

namespace donar::text {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

struct NormalizeForm {
  UnicodeForm form;
};
struct NormalizeLowercase {};
struct NormalizeStrip {
  bool left = true;
  bool right = true;
};
struct NormalizePrepend {
  std::string text;
};
struct NormalizeReplace {
  SplitPattern pattern;
  std::string content;
};
using NormalizeStep = std::variant<NormalizeForm, NormalizeLowercase, NormalizeStrip,
                                   NormalizePrepend, NormalizeReplace>;

// Text and, if asked for, where each of its bytes came from: so that a match in normalised text can
// be traced back.
struct NormalizedText {
  std::string text;
  std::vector<Span> origins;  // by byte of `text`; empty when not tracked
};

// Const after construction, thread-safe.
class Normalizer {
 public:
  void add(NormalizeStep step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }
  // `text` is valid UTF-8 and starts at `offset` of the whole.
  NormalizedText apply(std::string_view text, size_t offset, bool track_origins) const;

 private:
  std::vector<NormalizeStep> steps_;
};

}  // namespace donar::text
