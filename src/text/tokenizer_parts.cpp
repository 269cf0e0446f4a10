// The steps that tokenizer.json and GGUF vocabularies share.
#include "text/tokenizer_parts.h"

#include <array>
#include <cstdint>

#include "text/byte_level.h"

namespace donar::text {
namespace {

// Ids of the 256 characters that spell bytes; nullopt if one is missing.
std::optional<std::array<int32_t, 256>> byte_characters(const TokenizerParts& parts) {
  std::array<int32_t, 256> ids;
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    std::string spelled;
    append_byte_level({&raw, 1}, spelled);
    ids[byte] = parts.vocabulary.find(spelled);
    if (ids[byte] < 0 || parts.is_special(ids[byte])) return std::nullopt;
  }
  return ids;
}

}  // namespace

Result<void> build_bpe(const BpeSource& source, const std::string& name, TokenizerParts& parts) {
  const StringTable& vocabulary = parts.vocabulary;
  std::vector<uint8_t> special(static_cast<size_t>(vocabulary.id_limit()));
  for (const auto& [id, token] : parts.added.tokens()) {
    if (token.special && id < vocabulary.id_limit()) special[static_cast<size_t>(id)] = 1;
  }
  BpeModel::Options options{source.ignore_merges, source.byte_fallback, source.fuse_unknown, -1};
  if (!source.unknown_token.empty()) options.unknown_id = vocabulary.find(source.unknown_token);
  BpeModel& model = parts.model.emplace<BpeModel>(vocabulary, options);
  model.reserve(source.merges.size());

  std::string joined;
  for (size_t rank = 0; rank < source.merges.size(); ++rank) {
    const auto& [left, right] = source.merges[rank];
    joined.assign(left);
    joined.append(right);
    std::array<int32_t, 3> ids;
    const std::array<std::string_view, 3> texts = {left, right, joined};
    for (size_t i = 0; i < texts.size(); ++i) {
      ids[i] = vocabulary.find(texts[i]);
      if (ids[i] < 0) {
        return fail(ErrorCode::kDataLoss,
                    "{}: merge {} joins \"{}\" and \"{}\", but \"{}\" is not in the vocabulary",
                    name, rank, left, right, texts[i]);
      }
    }
    if (!special[static_cast<size_t>(ids[2])]) {
      model.add_merge(ids[0], ids[1], static_cast<uint32_t>(rank), ids[2]);
    }
  }

  const auto bytes = byte_characters(parts);
  if (bytes && parts.pre_tokenizer.ends_with_byte_level()) {
    if (source.ignore_merges) {
      parts.raw_tokens.reserve(vocabulary.count(), vocabulary.count() * 8);
      for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
        const std::string_view token = vocabulary.at(id);
        if (token.empty() || special[static_cast<size_t>(id)] || !is_byte_level(token)) continue;
        parts.raw_tokens.add(byte_level_bytes(token), id);
      }
    }
    model.use_raw_bytes(*bytes, parts.raw_tokens);
    parts.pre_tokenizer.keep_raw_bytes();
  }
  model.cut_at_words();
  return {};
}

void hide_special_tokens(TokenizerParts& parts) {
  for (const auto& [id, token] : parts.added.tokens()) {
    if (token.special) parts.vocabulary.hide(id);
  }
}

void finish_decoding(TokenizerParts& parts) {
  for (int32_t id = 0; id < parts.id_limit(); ++id) {
    parts.token_bytes.push_back(parts.decoder.token_bytes(parts.token(id)));
  }
  parts.stream_rule = parts.decoder.stream_rule();
}

}  // namespace donar::text
