// Text to token ids and back. Const after construction, thread-safe: HTTP threads share one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace donar::text {

struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

struct EncodeOptions {
  bool add_special_tokens = false;  // what the post-processor adds: BOS of Llama, none for Qwen
  bool parse_special = true;        // spelled-out special tokens in the text become their ids
  std::span<const ByteRange> untrusted =
      {};  // sorted ranges in which special tokens are never matched (text that came from a user)
};

// A GGUF file's vocabulary, as plain data (keys tokenizer.ggml.*).
struct GgufVocabulary {
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece by scores
  std::string pre;    // which split pattern: "smollm", "llama-bpe", "qwen2", "gpt-4o", ...
  std::vector<std::string> tokens;
  std::vector<double> scores;  // only for "llama"
  std::vector<int64_t>
      token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;                                     // "a b"
  int64_t bos_id = -1, eos_id = -1, unknown_id = -1, padding_id = -1;  // -1: none
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = true;  // only for "llama"
};

class Tokenizer {
 public:
  // tokenizer.json (with tokenizer_config.json and special_tokens_map.json beside it for the names
  // of special tokens). kNotFound without tokenizer.json, kDataLoss with file and place for a
  // malformed one, kUnsupported for an unknown component.
  static Result<Tokenizer> from_directory(const std::filesystem::path& directory);
  static Result<Tokenizer> from_json(std::string_view tokenizer_json,
                                     std::string_view tokenizer_config_json = {});
  static Result<Tokenizer> from_gguf(const GgufVocabulary& vocabulary);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Invalid UTF-8 in `text` is read as U+FFFD.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Whole text of `ids`; unknown ids give nothing. Invalid UTF-8 gives U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // Raw bytes of one token, as byte-level decoding sees it; may be part of a character. Empty for
  // unknown ids.
  std::string_view token_bytes(int32_t id) const;
  // The token as the vocabulary spells it ("Ġhello"); empty for unknown ids.
  std::string_view token_string(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view token_string) const;

  bool is_special(int32_t id) const;
  int64_t vocab_size() const;  // highest id + 1
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  // bos_token, eos_token, pad_token, unk_token, ... by name: variables of chat templates.
  const std::map<std::string, std::string>& special_token_names() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Token by token to text that never splits a character. One per choice of a request.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  // Primes the decoder with the last tokens of a prompt, so that a leading space is right
  // (SentencePiece).
  void prime(std::span<const int32_t> prompt);
  // The text that `id` completes; empty while a character is incomplete.
  std::string push(int32_t id);
  // What is left at the end: U+FFFD for an incomplete character, else empty.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  bool at_start_ = true;  // SentencePiece strips one leading space of the whole text
  std::string pending_;   // at most 3 bytes of an incomplete character
};

// Finds stop strings in streamed text: holds back what could be the start of one.
class StopMatcher {
 public:
  StopMatcher(std::vector<std::string> stops, bool include_stop_in_output);
  // Text that is safe to send. When a stop string is complete, `matched()` is set and nothing more
  // comes.
  std::string push(std::string_view text);
  std::string flush();  // the held-back tail, at the end of generation
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_stop_in_output_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace donar::text
