// The encode pipeline: added tokens, normalizer, added tokens in normalised text, pre-tokenizer,
// model.
#include "text/tokenizer.h"

#include <boost/json/object.hpp>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr size_t kMaxFileBytes = size_t{512} << 20;

// A copy of `text` that is valid UTF-8; `ranges` move with their text.
std::string repaired(std::string_view text, std::vector<ByteRange>& ranges) {
  std::string out;
  out.reserve(text.size() + 16);
  std::vector<std::pair<size_t, size_t>>
      moves;  // original offset, offset in `out`: where an ill-formed part ends
  for (size_t at = 0; at < text.size();) {
    const size_t valid = valid_utf8_prefix(text.substr(at));
    out.append(text.substr(at, valid));
    at += valid;
    if (at == text.size()) break;
    const size_t length = next_utf8(text.substr(at)).length;
    moves.emplace_back(at, out.size());
    out.append(kReplacementCharacter);
    at += length;
    moves.emplace_back(at, out.size());
  }
  // Between two moves offsets run in step; inside an ill-formed part they are widened to the whole
  // of U+FFFD.
  const auto moved = [&](size_t offset, bool is_end) {
    const auto next = std::upper_bound(moves.begin(), moves.end(), offset,
                                       [](size_t o, const auto& move) { return o < move.first; });
    if (next == moves.begin()) return offset;
    const auto last = std::prev(next);
    const bool inside = (last - moves.begin()) % 2 == 0 && offset > last->first;
    if (inside) return is_end ? last->second + kReplacementCharacter.size() : last->second;
    return last->second + (offset - last->first);
  };
  for (ByteRange& range : ranges) {
    range = {moved(range.begin, /*is_end=*/false), moved(range.end, /*is_end=*/true)};
  }
  return out;
}

// Sorted and disjoint, so that one search finds an overlap.
std::vector<ByteRange> merged_ranges(std::span<const ByteRange> ranges) {
  std::vector<ByteRange> sorted(ranges.begin(), ranges.end());
  std::erase_if(sorted, [](const ByteRange& range) { return range.begin >= range.end; });
  std::sort(sorted.begin(), sorted.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  std::vector<ByteRange> merged;
  for (const ByteRange& range : sorted) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

bool overlaps(const std::vector<ByteRange>& ranges, size_t begin, size_t end) {
  const auto range = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                      [](size_t at, const ByteRange& r) { return at < r.end; });
  return range != ranges.end() && range->begin < end;
}

// Whitespace that a vocabulary lists as added tokens (Gemma) controls nothing: a user may write it.
bool is_blank(std::string_view content) {
  while (!content.empty()) {
    const Character character = character_at(content.data());
    if ((classes_of(character.code) & kSpace) == 0 && character.code != 0x2581) return false;
    content.remove_prefix(character.length);
  }
  return true;
}

class Encoder {
 public:
  Encoder(const TokenizerParts& parts, const EncodeOptions& options,
          std::vector<ByteRange> untrusted)
      : parts_(parts), options_(options), untrusted_(std::move(untrusted)) {}

  void encode(std::string_view text, std::vector<int32_t>& out) {
    std::vector<AddedTokens::Segment> segments;
    parts_.added.split_raw(
        text,
        [&](size_t begin, size_t end, const AddedToken& token) {
          return allowed(token, begin, end);
        },
        segments);
    for (const auto& segment : segments) {
      if (segment.id >= 0) {
        out.push_back(segment.id);
      } else {
        encode_text(text.substr(segment.begin, segment.end - segment.begin), segment.begin, out);
      }
    }
  }

 private:
  bool allowed(const AddedToken& token, size_t begin, size_t end) const {
    if (token.special && !options_.parse_special) return false;
    return untrusted_.empty() || !overlaps(untrusted_, begin, end) || is_blank(token.content);
  }

  // Text without raw added tokens, `offset` bytes into the whole.
  void encode_text(std::string_view text, size_t offset, std::vector<int32_t>& out) {
    if (parts_.normalizer.empty() && !parts_.added.has_normalized()) {
      encode_normalized(text, offset == 0, out);
      return;
    }
    const bool track = parts_.added.has_normalized() && !untrusted_.empty();
    const NormalizedText normal = parts_.normalizer.apply(text, offset, track);
    std::vector<AddedTokens::Segment> segments;
    parts_.added.split_normalized(
        normal.text,
        [&](size_t begin, size_t end, const AddedToken& token) {
          if (!track) return allowed(token, begin, end);
          size_t first = normal.origins[begin].begin, last = normal.origins[begin].end;
          for (size_t i = begin; i < end; ++i) {
            first = std::min(first, normal.origins[i].begin);
            last = std::max(last, normal.origins[i].end);
          }
          return allowed(token, first, last);
        },
        segments);
    for (const auto& segment : segments) {
      if (segment.id >= 0) {
        out.push_back(segment.id);
      } else {
        encode_normalized(
            std::string_view(normal.text).substr(segment.begin, segment.end - segment.begin),
            offset == 0 && segment.begin == 0, out);
      }
    }
  }

  void encode_normalized(std::string_view text, bool at_start, std::vector<int32_t>& out) {
    const Pieces pieces = parts_.pre_tokenizer.apply(text, at_start);
    for (const Span& span : pieces.spans) {
      const std::string_view piece =
          std::string_view(pieces.text).substr(span.begin, span.end - span.begin);
      if (const auto* bpe = std::get_if<BpeModel>(&parts_.model)) {
        bpe->encode(piece, out, scratch_);
      } else if (const auto* unigram = std::get_if<UnigramModel>(&parts_.model)) {
        unigram->encode(piece, out);
      } else if (const auto* sentencepiece = std::get_if<SentencePieceModel>(&parts_.model)) {
        sentencepiece->encode(piece, out);
      }
    }
  }

  const TokenizerParts& parts_;
  const EncodeOptions& options_;
  std::vector<ByteRange> untrusted_;
  BpeScratch scratch_;
};

Result<json::object> parse_config(std::string_view text, const std::string& name) {
  if (text.empty()) return json::object{};
  auto parsed = parse_json(text);
  if (!parsed) return fail(ErrorCode::kDataLoss, "{}: {}", name, parsed.error().message);
  if (!parsed->is_object()) return fail(ErrorCode::kDataLoss, "{}: must be a JSON object", name);
  return std::move(parsed->get_object());
}

// The file's text and kJsonPadding zeros: one read, no copy.
Result<std::string> read_padded(const std::filesystem::path& path) {
  auto file = File::open(path);
  if (!file) return forward_error(file);
  if (file->size() > kMaxFileBytes) {
    return fail(ErrorCode::kPayloadTooLarge, "{}: {} bytes, at most {} are read", path.string(),
                file->size(), kMaxFileBytes);
  }
  std::string text(file->size() + kJsonPadding, '\0');
  auto read = file->read_at(0, std::as_writable_bytes(std::span(text.data(), file->size())));
  if (!read) return forward_error(read);
  return text;
}

// The file's object; empty without the file.
Result<json::object> read_config(const std::filesystem::path& path) {
  auto text = read_text_file(path);
  if (!text && text.error().code == ErrorCode::kNotFound) return json::object{};
  if (!text) return forward_error(text);
  return parse_config(*text, path.string());
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_directory(const std::filesystem::path& directory) {
  const auto path = directory / "tokenizer.json";
  auto text = read_padded(path);
  if (!text) return forward_error(text);
  auto config = read_config(directory / "tokenizer_config.json");
  if (!config) return forward_error(config);
  auto names = read_config(directory / "special_tokens_map.json");
  if (!names) return forward_error(names);
  for (const auto& [key, value] : *names) {
    if (const json::value* known = config->if_contains(key); known == nullptr || known->is_null()) {
      (*config)[key] = value;
    }
  }
  auto parts = parse_tokenizer_json(*text, text->size() - kJsonPadding, path.string(), *config);
  if (!parts) return forward_error(parts);
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json,
                                       std::string_view tokenizer_config_json) {
  auto config = parse_config(tokenizer_config_json, "tokenizer_config.json");
  if (!config) return forward_error(config);
  std::string padded;
  padded.reserve(tokenizer_json.size() + kJsonPadding);
  padded.append(tokenizer_json).append(kJsonPadding, '\0');
  auto parts = parse_tokenizer_json(padded, tokenizer_json.size(), "tokenizer.json", *config);
  if (!parts) return forward_error(parts);
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

Result<Tokenizer> Tokenizer::from_gguf(const GgufVocabulary& vocabulary) {
  auto parts = parse_gguf_vocabulary(vocabulary);
  if (!parts) return forward_error(parts);
  return Tokenizer(std::make_unique<const Impl>(Impl{std::move(*parts)}));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TokenizerParts& parts = *impl_->parts;
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  if (options.add_special_tokens) ids = parts.post_processor.prefix;
  std::vector<ByteRange> untrusted = merged_ranges(options.untrusted);
  if (valid_utf8_prefix(text) == text.size()) {
    Encoder(parts, options, std::move(untrusted)).encode(text, ids);
  } else {
    const std::string valid = repaired(text, untrusted);
    Encoder(parts, options, std::move(untrusted)).encode(valid, ids);
  }
  if (options.add_special_tokens) {
    ids.insert(ids.end(), parts.post_processor.suffix.begin(), parts.post_processor.suffix.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  const TokenizerParts& parts = *impl_->parts;
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (parts.added.find(id) == nullptr && !parts.vocabulary.contains(id)) continue;
    if (skip_special_tokens && parts.is_special(id)) continue;
    tokens.emplace_back(parts.decoded(id));
  }
  return parts.decoder.decode(std::move(tokens));
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return impl_->parts->token_bytes.at(id);
}

std::string_view Tokenizer::token_string(int32_t id) const { return impl_->parts->token(id); }

std::optional<int32_t> Tokenizer::token_id(std::string_view token_string) const {
  if (const auto id = impl_->parts->added.find(token_string)) return id;
  const int32_t id = impl_->parts->vocabulary.find(token_string);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const { return impl_->parts->is_special(id); }

int64_t Tokenizer::vocab_size() const { return impl_->parts->id_limit(); }

std::optional<int32_t> Tokenizer::bos_id() const { return impl_->named_id("bos_token"); }

std::optional<int32_t> Tokenizer::eos_id() const { return impl_->named_id("eos_token"); }

const std::map<std::string, std::string>& Tokenizer::special_token_names() const {
  return impl_->parts->special_token_names;
}

std::optional<int32_t> Tokenizer::Impl::named_id(const char* name) const {
  const auto found = parts->special_token_names.find(name);
  if (found == parts->special_token_names.end()) return std::nullopt;
  if (const auto id = parts->added.find(found->second)) return id;
  const int32_t id = parts->vocabulary.find(found->second);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

}  // namespace donar::text
