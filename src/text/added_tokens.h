// Added tokens: strings that become one id before any model sees the text, unless they come from a
// user.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "text/byte_trie.h"
#include "text/normalizer.h"
#include "text/string_table.h"

namespace donar::text {

struct AddedToken {
  std::string content;
  bool single_word = false;  // not beside a word character
  bool lstrip = false;       // takes whitespace on its left
  bool rstrip = false;       // and on its right
  bool normalized = false;   // found in normalised text, in its own normal form
  bool special = false;      // not shown by default, never produced by the model from text
  std::string decoded = {};  // what decoders see: the content or its normal form; set by finish()
};

// Const after finish(), thread-safe.
class AddedTokens {
 public:
  // Part of a text: one token, or text between tokens (id -1).
  struct Segment {
    size_t begin = 0;
    size_t end = 0;
    int32_t id = -1;
  };
  // Whether the bytes [begin, end) may become `token`.
  using Allowed = FunctionRef<bool(size_t begin, size_t end, const AddedToken& token)>;

  // The id is the vocabulary's if it has the content, else `wanted_id` if that is free, else the
  // next free one. Empty contents are ignored; a content seen before keeps its id and takes the new
  // flags.
  void add(AddedToken token, const StringTable& vocabulary, int32_t wanted_id = -1);
  void finish(const Normalizer& normalizer);

  bool empty() const { return tokens_.empty(); }
  const AddedToken* find(int32_t id) const;
  std::optional<int32_t> find(std::string_view content) const;
  int32_t id_limit() const { return tokens_.empty() ? 0 : tokens_.rbegin()->first + 1; }
  const std::map<int32_t, AddedToken>& tokens() const { return tokens_; }

  bool has_normalized() const { return !normalized_.empty(); }
  // Leftmost-longest tokens and the text between them, in order; appended to `out`.
  void split_raw(std::string_view text, Allowed allowed, std::vector<Segment>& out) const {
    split(text, raw_, allowed, out);
  }
  void split_normalized(std::string_view text, Allowed allowed, std::vector<Segment>& out) const {
    split(text, normalized_, allowed, out);
  }

 private:
  void split(std::string_view text, const ByteTrie& trie, Allowed allowed,
             std::vector<Segment>& out) const;

  std::map<int32_t, AddedToken> tokens_;
  std::map<std::string, int32_t, std::less<>> ids_;
  ByteTrie raw_, normalized_;
};

}  // namespace donar::text
