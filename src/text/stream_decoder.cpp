// Bytes of tokens go into a buffer; whole characters come out. At most 3 bytes of an unfinished one
// stay.
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

// Moves whole characters and U+FFFD for ill-formed bytes from `pending` to the result; an
// unfinished character stays.
std::string take_whole_characters(std::string& pending, bool replace_each_byte) {
  std::string out;
  std::string_view rest = pending;
  while (!rest.empty()) {
    const size_t valid = valid_utf8_prefix(rest);
    out.append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Step step = next_utf8(rest);
    if (step.state == Utf8State::kIncomplete) break;
    for (size_t i = 0; i < (replace_each_byte ? step.length : 1); ++i) out += kReplacementCharacter;
    rest.remove_prefix(step.length);
  }
  pending.erase(0, pending.size() - rest.size());
  return out;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

void StreamDecoder::prime(std::span<const int32_t> prompt) {
  for (const int32_t id : prompt) push(id);
}

std::string StreamDecoder::push(int32_t id) {
  const TokenizerParts& parts = *tokenizer_->impl_->parts;
  const StreamRule& rule = parts.stream_rule;
  if (parts.added.find(id) == nullptr && !parts.vocabulary.contains(id)) return {};
  if (skip_special_tokens_ && parts.is_special(id)) return {};
  const bool first = at_start_;
  if (first && !rule.first_token_drops.empty()) {
    // The marker that stands for a space disappears from the first token.
    at_start_ = false;
    std::string token(parts.decoded(id));
    for (size_t at = token.find(rule.first_token_drops); at != std::string::npos;
         at = token.find(rule.first_token_drops, at)) {
      token.erase(at, rule.first_token_drops.size());
    }
    return token;
  }
  if (!first) pending_ += rule.separator;
  pending_ += parts.token_bytes.at(id);
  std::string out = take_whole_characters(pending_, rule.replace_each_byte);
  if (!first) return out;
  if (rule.strip_start == 0) {
    at_start_ = false;
    return out;
  }
  if (out.empty()) return out;  // the start of the text is still to come
  at_start_ = false;
  for (size_t i = 0; i < rule.strip_start && !out.empty(); ++i) {
    const Character character = character_at(out.data());
    if (character.code != rule.strip_content) break;
    out.erase(0, character.length);
  }
  return out;
}

std::string StreamDecoder::flush() {
  std::string out;
  const bool each = tokenizer_->impl_->parts->stream_rule.replace_each_byte;
  for (size_t i = 0; i < (each ? pending_.size() : pending_.empty() ? 0 : 1); ++i) {
    out += kReplacementCharacter;
  }
  pending_.clear();
  return out;
}

}  // namespace donar::text
