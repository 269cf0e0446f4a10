// Pre-tokenizers of tokenizer.json: a text becomes the pieces that the model encodes one by one.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/split_pattern.h"

namespace donar::text {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct PreSplit {
  SplitPattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
struct PreByteLevel {
  bool add_prefix_space = true;
  bool use_regex = true;
};
struct PreDigits {
  bool individual = false;
};
enum class PrependScheme { kAlways, kFirst, kNever };
struct PreMetaspace {
  std::string replacement = "\xE2\x96\x81";
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;
};
using PreTokenizeStep = std::variant<PreSplit, PreByteLevel, PreDigits, PreMetaspace>;

struct Pieces {
  std::string text;
  std::vector<Span> spans;  // of `text`, none empty
};

// Const after construction, thread-safe.
class PreTokenizer {
 public:
  void add(PreTokenizeStep step) { steps_.push_back(std::move(step)); }
  bool ends_with_byte_level() const {
    return !steps_.empty() && std::holds_alternative<PreByteLevel>(steps_.back());
  }
  // The last step leaves bytes as they are: the model takes raw bytes.
  void keep_raw_bytes() { raw_bytes_ = true; }

  // `text` is valid UTF-8; `at_start`: it begins the whole input.
  Pieces apply(std::string_view text, bool at_start) const;

 private:
  std::vector<PreTokenizeStep> steps_;
  bool raw_bytes_ = false;
};

}  // namespace donar::text
