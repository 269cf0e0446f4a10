// Vocabularies of GGUF files: "gpt2" is byte-level BPE whose split pattern is chosen by name,
// "llama" is SentencePiece.
#include <fmt/format.h>

#include <array>

#include "base/check.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr int64_t kTypeUnknown = 2, kTypeControl = 3, kTypeUserDefined = 4, kTypeByte = 6;
constexpr std::string_view kWordStart = "\xE2\x96\x81";

struct PrePattern {
  std::string_view name;
  std::array<std::string_view, 3> patterns;  // splits one after the other; empty: none
  bool ignore_merges = false;
  bool nfc = false;
  bool digits = false;  // every number character alone, before the patterns
};

constexpr PrePattern kPrePatterns[] = {
    {"default", {pattern::kGpt2}},
    {"gpt-2", {pattern::kGpt2}},
    {"mpt", {pattern::kGpt2}},
    {"olmo", {pattern::kGpt2}},
    {"phi-2", {pattern::kGpt2}},
    {"smollm", {pattern::kGpt2}, false, false, /*digits=*/true},
    {"starcoder", {pattern::kGpt2}, false, false, /*digits=*/true},
    {"refact", {pattern::kGpt2}, false, false, /*digits=*/true},
    {"codeshell", {pattern::kGpt2}, false, false, /*digits=*/true},
    {"command-r", {pattern::kGpt2}, false, false, /*digits=*/true},
    {"llama-bpe", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"llama3", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"llama-v3", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"falcon3", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"pixtral", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"lfm2", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"smaug-bpe", {pattern::kLlama3}},
    {"dbrx", {pattern::kLlama3}},
    {"chatglm-bpe", {pattern::kLlama3}},
    {"glm4", {pattern::kLlama3}, /*ignore_merges=*/true},
    {"qwen2", {pattern::kQwen2}, false, /*nfc=*/true},
    {"deepseek-r1-qwen", {pattern::kQwen2}, false, /*nfc=*/true},
    {"stablelm2", {pattern::kQwen2}},
    {"qwen35", {pattern::kQwen35}, false, /*nfc=*/true},
    {"gpt-4o", {pattern::kO200k}, /*ignore_merges=*/true},
    {"llama4", {pattern::kO200k}, /*ignore_merges=*/true},
    {"tekken", {pattern::kTekken}, /*ignore_merges=*/true},
    {"deepseek-v3", {pattern::kNumbersByThree, pattern::kDeepSeekCjk, pattern::kDeepSeekWords}},
};

Result<void> add_pre_pattern(const std::string& name, TokenizerParts& parts, BpeSource& bpe) {
  const PrePattern* found = nullptr;
  std::string known;
  for (const PrePattern& entry : kPrePatterns) {
    if (entry.name == (name.empty() ? "default" : name)) found = &entry;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  if (found == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "GGUF: tokenizer.ggml.pre \"{}\" is not supported yet; a model directory with "
                "tokenizer.json "
                "works, and so do the names {}",
                name, known);
  }
  if (found->nfc) parts.normalizer.add(NormalizeForm{UnicodeForm::kNfc});
  if (found->digits) parts.pre_tokenizer.add(PreDigits{/*individual=*/true});
  for (const std::string_view expression : found->patterns) {
    if (expression.empty()) continue;
    auto split = SplitPattern::regex(expression);
    if (!split) return forward_error(split);
    parts.pre_tokenizer.add(
        PreSplit{std::move(*split), SplitBehavior::kIsolated, /*invert=*/false});
  }
  parts.pre_tokenizer.add(PreByteLevel{/*add_prefix_space=*/false, /*use_regex=*/false});
  bpe.ignore_merges = found->ignore_merges;
  return {};
}

Result<void> build_byte_level(const GgufVocabulary& source, TokenizerParts& parts) {
  BpeSource bpe;
  if (auto r = add_pre_pattern(source.pre, parts, bpe); !r) return r;
  bpe.merges.reserve(source.merges.size());
  for (const std::string& merge : source.merges) {
    const std::string_view line = merge;
    const size_t space =
        line.find(' ', 1);  // a part is never empty, but may be a space's own character
    if (line.empty() || space == std::string_view::npos || space + 1 == line.size()) {
      return fail(ErrorCode::kDataLoss, "GGUF: merge {} (\"{}\") does not have two parts",
                  bpe.merges.size(), merge);
    }
    bpe.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  parts.added.finish(parts.normalizer);
  parts.decoder.add(DecodeByteLevel{});
  if (auto r = build_bpe(bpe, "GGUF", parts); !r) return r;
  hide_special_tokens(parts);
  return {};
}

Result<void> build_sentencepiece(const GgufVocabulary& source, TokenizerParts& parts) {
  if (source.scores.size() != source.tokens.size()) {
    return fail(ErrorCode::kDataLoss, "GGUF: {} tokens but {} scores", source.tokens.size(),
                source.scores.size());
  }
  if (source.add_space_prefix) parts.normalizer.add(NormalizePrepend{std::string(kWordStart)});
  parts.normalizer.add(NormalizeReplace{SplitPattern::literal(" "), std::string(kWordStart)});
  parts.added.finish(parts.normalizer);
  parts.decoder.add(DecodeReplace{SplitPattern::literal(std::string(kWordStart)), " "});
  parts.decoder.add(DecodeByteFallback{});
  parts.decoder.add(DecodeFuse{});
  if (source.add_space_prefix) parts.decoder.add(DecodeStrip{' ', 1, 0});

  std::array<int32_t, 256> bytes;
  for (int byte = 0; byte < 256; ++byte)
    bytes[byte] = parts.vocabulary.find(fmt::format("<0x{:02X}>", byte));
  hide_special_tokens(parts);
  for (size_t id = 0; id < source.token_types.size(); ++id) {
    if (source.token_types[id] == kTypeByte) parts.vocabulary.hide(static_cast<int32_t>(id));
  }
  std::vector<float> scores(source.scores.begin(), source.scores.end());
  parts.model.emplace<SentencePieceModel>(parts.vocabulary, std::move(scores), bytes,
                                          static_cast<int32_t>(source.unknown_id));
  return {};
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> parse_gguf_vocabulary(const GgufVocabulary& source) {
  const auto count = static_cast<int64_t>(source.tokens.size());
  if (count == 0 || count > kMaxTokenId) {
    return fail(ErrorCode::kDataLoss, "GGUF: a vocabulary of {} tokens", count);
  }
  if (!source.token_types.empty() && source.token_types.size() != source.tokens.size()) {
    return fail(ErrorCode::kDataLoss, "GGUF: {} tokens but {} token types", count,
                source.token_types.size());
  }
  for (const int64_t id : {source.bos_id, source.eos_id, source.unknown_id, source.padding_id}) {
    if (id < -1 || id >= count) {
      return fail(ErrorCode::kDataLoss,
                  "GGUF: the special token id {} is not in the vocabulary of {} tokens", id, count);
    }
  }
  auto parts = std::make_unique<TokenizerParts>();
  parts->vocabulary.reserve(source.tokens.size(), source.tokens.size() * 8);
  for (size_t id = 0; id < source.tokens.size(); ++id) {
    const std::string& token = source.tokens[id];
    if (valid_utf8_prefix(token) != token.size()) {
      return fail(ErrorCode::kDataLoss, "GGUF: token {} is not valid UTF-8", id);
    }
    DONAR_CHECK(parts->vocabulary.add(token, static_cast<int32_t>(id)), "token {}", id);
  }
  for (size_t id = 0; id < source.token_types.size(); ++id) {
    const int64_t type = source.token_types[id];
    if (type != kTypeControl && type != kTypeUserDefined && type != kTypeUnknown) continue;
    AddedToken token{source.tokens[id]};
    token.special = type != kTypeUserDefined;
    parts->added.add(std::move(token), parts->vocabulary);
  }
  const auto name = [&](const char* key, int64_t id) {
    if (id >= 0) parts->special_token_names[key] = source.tokens[static_cast<size_t>(id)];
  };
  name("bos_token", source.bos_id);
  name("eos_token", source.eos_id);
  name("unk_token", source.unknown_id);
  name("pad_token", source.padding_id);
  if (source.add_bos && source.bos_id >= 0) {
    parts->post_processor.prefix.push_back(static_cast<int32_t>(source.bos_id));
  }
  if (source.add_eos && source.eos_id >= 0) {
    parts->post_processor.suffix.push_back(static_cast<int32_t>(source.eos_id));
  }
  Result<void> built;
  if (source.model == "gpt2") {
    built = build_byte_level(source, *parts);
  } else if (source.model == "llama") {
    built = build_sentencepiece(source, *parts);
  } else {
    return fail(ErrorCode::kUnsupported,
                "GGUF: tokenizer.ggml.model \"{}\" is not supported yet; gpt2 and llama are",
                source.model);
  }
  if (!built) return forward_error(built);
  finish_decoding(*parts);
  return parts;
}

}  // namespace donar::text
