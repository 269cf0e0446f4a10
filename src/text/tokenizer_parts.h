// What a tokenizer is made of, whatever file it came from. Built by tokenizer_json.cpp and
// tokenizer_gguf.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece.h"
#include "text/string_table.h"
#include "text/token_decoder.h"
#include "text/tokenizer.h"
#include "text/unigram.h"

namespace donar::text {

// Ids around a text when special tokens are asked for.
struct PostProcessor {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

// Every token, added ones too, as the decoder sees it.
class TokenBytes {
 public:
  void push_back(std::string_view bytes) {
    arena_.append(bytes);
    ends_.push_back(arena_.size());
  }
  std::string_view at(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= ends_.size()) return {};
    const size_t begin = id == 0 ? 0 : ends_[static_cast<size_t>(id) - 1];
    return std::string_view(arena_).substr(begin, ends_[static_cast<size_t>(id)] - begin);
  }

 private:
  std::string arena_;
  std::vector<size_t> ends_;  // by id
};

// The models point into `vocabulary`: parts live behind a pointer and never move.
struct TokenizerParts {
  TokenizerParts() = default;
  TokenizerParts(const TokenizerParts&) = delete;
  TokenizerParts& operator=(const TokenizerParts&) = delete;

  StringTable vocabulary;  // the model's tokens; special ones are hidden from the model
  AddedTokens added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::variant<std::monostate, BpeModel, UnigramModel, SentencePieceModel> model;
  PostProcessor post_processor;
  TokenDecoder decoder;
  StreamRule stream_rule;
  TokenBytes token_bytes;
  std::map<std::string, std::string> special_token_names;

  // The token as its file spells it; empty for unknown ids.
  std::string_view token(int32_t id) const {
    const AddedToken* token = added.find(id);
    return token != nullptr ? std::string_view(token->content) : vocabulary.at(id);
  }
  // The token as decoders see it.
  std::string_view decoded(int32_t id) const {
    const AddedToken* token = added.find(id);
    return token != nullptr ? std::string_view(token->decoded) : vocabulary.at(id);
  }
  bool is_special(int32_t id) const {
    const AddedToken* token = added.find(id);
    return token != nullptr && token->special;
  }
  int32_t id_limit() const { return std::max(vocabulary.id_limit(), added.id_limit()); }
};

// Numbers and names of a model section that both kinds of file can state.
struct BpeSource {
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // by rank
  std::string unknown_token;                                          // empty: none
  bool fuse_unknown = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

// Largest token id we accept: beyond it a file is torn, not large.
inline constexpr int64_t kMaxTokenId = (int64_t{1} << 22) - 1;

// After vocabulary, added tokens, pre-tokenizer and decoder: the BPE model in `parts`. Messages
// start with `name`.
Result<void> build_bpe(const BpeSource& source, const std::string& name, TokenizerParts& parts);
// No text becomes a special token by the model alone. After build_bpe, before the other models are
// made.
void hide_special_tokens(TokenizerParts& parts);
// The last step: what decoding needs.
void finish_decoding(TokenizerParts& parts);

// Components of tokenizer.json; null is allowed. kUnsupported with the type's name for an unknown
// one.
Result<void> add_normalizer(const json::value& component, Normalizer& normalizer);
Result<void> add_pre_tokenizer(const json::value& component, PreTokenizer& pre_tokenizer);
Result<void> add_post_processor(const json::value& component, PostProcessor& post_processor);
Result<void> add_decoder(const json::value& component, TokenDecoder& decoder);

// Bytes that the parser may read, but not use, behind a text.
inline constexpr size_t kJsonPadding = 64;
// The text is the first `size` bytes of `padded`, which has kJsonPadding more. `name` is what
// messages call the file.
Result<std::unique_ptr<TokenizerParts>> parse_tokenizer_json(const std::string& padded, size_t size,
                                                             const std::string& name,
                                                             const json::object& tokenizer_config);
Result<std::unique_ptr<TokenizerParts>> parse_gguf_vocabulary(const GgufVocabulary& vocabulary);

}  // namespace donar::text
