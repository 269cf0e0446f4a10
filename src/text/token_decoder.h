// Decoders of tokenizer.json: token strings to text, all at once or as bytes token by token for
// streaming.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/pre_tokenizer.h"
#include "text/split_pattern.h"

namespace donar::text {

struct DecodeByteLevel {};
struct DecodeReplace {
  SplitPattern pattern;
  std::string content;
};
struct DecodeByteFallback {};
struct DecodeFuse {};
struct DecodeStrip {
  uint32_t content = ' ';  // code point
  size_t start = 0;
  size_t stop = 0;
};
struct DecodeMetaspace {
  std::string replacement = "\xE2\x96\x81";
  PrependScheme prepend_scheme = PrependScheme::kAlways;
};
using DecodeStep = std::variant<DecodeByteLevel, DecodeReplace, DecodeByteFallback, DecodeFuse,
                                DecodeStrip, DecodeMetaspace>;

// What streaming needs to know beside each token's bytes.
struct StreamRule {
  std::string separator;          // between tokens: a space without a decoder, else empty
  uint32_t strip_content = 0;     // this character is removed ...
  size_t strip_start = 0;         // ... so many times at the start of the whole text
  std::string first_token_drops;  // removed everywhere in the first token (Metaspace)
  bool replace_each_byte =
      false;  // invalid bytes: one U+FFFD each instead of one per ill-formed part
};

// Const after construction, thread-safe. Without anything added it is the null decoder: tokens
// joined by a space.
class TokenDecoder {
 public:
  void add(DecodeStep step) {
    steps_.push_back(std::move(step));
    present_ = true;
  }
  void mark_present() { present_ = true; }  // an empty Sequence joins without a space

  std::string decode(std::vector<std::string> tokens) const;
  // What `token` contributes to the text, as bytes: perhaps part of a character.
  std::string token_bytes(std::string_view token) const;
  StreamRule stream_rule() const;

 private:
  std::vector<DecodeStep> steps_;
  bool present_ = false;
};

}  // namespace donar::text
