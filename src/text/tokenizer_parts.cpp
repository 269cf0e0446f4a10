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

bool spells(std::string_view token, std::string_view left, std::string_view right) {
  return token.size() == left.size() + right.size() && token.starts_with(left) &&
         token.ends_with(right);
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

  const auto missing = [&](size_t rank, std::string_view token) {
    const auto& [left, right] = source.merges[rank];
    return fail(ErrorCode::kDataLoss,
                "{}: merge {} joins \"{}\" and \"{}\", but \"{}\" is not in the vocabulary", name,
                rank, left, right, token);
  };
  // The parts of a few merges ahead are being fetched while one is looked up: the tables exceed the
  // caches.
  constexpr size_t kAhead = 16;
  std::array<std::array<uint32_t, 2>, kAhead> hashes;
  const auto prefetch = [&](size_t rank) {
    if (rank >= source.merges.size()) return;
    const auto& [left, right] = source.merges[rank];
    hashes[rank % kAhead] = {vocabulary.prefetch(left), vocabulary.prefetch(right)};
  };
  for (size_t rank = 0; rank < kAhead; ++rank) prefetch(rank);
  std::string joined;
  int32_t result = 0;
  for (size_t rank = 0; rank < source.merges.size(); ++rank) {
    const auto& [left, right] = source.merges[rank];
    const auto [left_hash, right_hash] = hashes[rank % kAhead];
    prefetch(rank + kAhead);
    const int32_t left_id = vocabulary.find(left, left_hash);
    if (left_id < 0) return missing(rank, left);
    const int32_t right_id = vocabulary.find(right, right_hash);
    if (right_id < 0) return missing(rank, right);
    // Merges mostly come in the order of their results: look at the last one and the next before
    // the hash table.
    if (!spells(vocabulary.at(result), left, right) &&
        !spells(vocabulary.at(++result), left, right)) {
      joined.assign(left);
      joined.append(right);
      result = vocabulary.find(joined);
      if (result < 0) return missing(rank, joined);
    }
    if (!special[static_cast<size_t>(result)]) {
      model.add_merge(left_id, right_id, static_cast<uint32_t>(rank), result);
    }
  }

  const auto bytes = byte_characters(parts);
  if (bytes && parts.pre_tokenizer.ends_with_byte_level()) {
    model.use_raw_bytes(*bytes);
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
    parts.token_bytes.push_back(parts.decoder.token_bytes(parts.decoded(id)));
  }
  parts.stream_rule = parts.decoder.stream_rule();
}

}  // namespace donar::text
