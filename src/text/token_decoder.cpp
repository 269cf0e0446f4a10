// Each step maps the list of token strings to another list, as in the reference; the result is
// their concatenation.
#include "text/token_decoder.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "text/byte_level.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

using Strings = std::vector<std::string>;

// The byte that "<0xHH>" spells.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

std::string replaced(const DecodeReplace& step, std::string_view token) {
  std::vector<Span> matches;
  step.pattern.find(token, matches);
  std::string out;
  size_t at = 0;
  for (const Span& match : matches) {
    out.append(token.substr(at, match.begin - at));
    out.append(step.content);
    at = match.end;
  }
  out.append(token.substr(at));
  return out;
}

std::string replaced_text(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t found = text.find(from); !from.empty() && found != std::string_view::npos;
       found = text.find(from, at)) {
    out.append(text.substr(at, found - at));
    out.append(to);
    at = found + from.size();
  }
  out.append(text.substr(at));
  return out;
}

std::string_view stripped(const DecodeStrip& step, std::string_view token) {
  for (size_t i = 0; i < step.start && !token.empty(); ++i) {
    const Character character = character_at(token.data());
    if (character.code != step.content) break;
    token.remove_prefix(character.length);
  }
  for (size_t i = 0; i < step.stop && !token.empty(); ++i) {
    const Character character = character_before(token.data(), token.data() + token.size());
    if (character.code != step.content) break;
    token.remove_suffix(character.length);
  }
  return token;
}

Strings apply_step(const DecodeByteLevel&, Strings tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += byte_level_bytes(token);
  Strings text(1);
  append_lossy(bytes, text[0]);
  return text;
}

Strings apply_step(const DecodeReplace& step, Strings tokens) {
  for (std::string& token : tokens) token = replaced(step, token);
  return tokens;
}

Strings apply_step(const DecodeByteFallback&, Strings tokens) {
  Strings out;
  std::string run;  // bytes that wait for the end of their run
  const auto flush = [&] {
    if (run.empty()) return;
    if (valid_utf8_prefix(run) == run.size()) {
      out.push_back(run);
    } else {
      for (size_t i = 0; i < run.size(); ++i) out.emplace_back(kReplacementCharacter);
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = fallback_byte(token)) {
      run += *byte;
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  return out;
}

Strings apply_step(const DecodeFuse&, Strings tokens) {
  Strings fused(1);
  for (const std::string& token : tokens) fused[0] += token;
  return fused;
}

Strings apply_step(const DecodeStrip& step, Strings tokens) {
  for (std::string& token : tokens) token = std::string(stripped(step, token));
  return tokens;
}

Strings apply_step(const DecodeMetaspace& step, Strings tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool drop = i == 0 && step.prepend_scheme != PrependScheme::kNever;
    tokens[i] = replaced_text(tokens[i], step.replacement, drop ? "" : " ");
  }
  return tokens;
}

}  // namespace

std::string TokenDecoder::decode(Strings tokens) const {
  std::string text;
  if (!present_) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) text += ' ';
      text += tokens[i];
    }
    return text;
  }
  for (const DecodeStep& step : steps_) {
    tokens = std::visit([&](const auto& s) { return apply_step(s, std::move(tokens)); }, step);
  }
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string TokenDecoder::token_bytes(std::string_view token) const {
  std::string bytes(token);
  for (const DecodeStep& step : steps_) {
    if (std::holds_alternative<DecodeByteLevel>(step)) return byte_level_bytes(bytes);
    if (std::holds_alternative<DecodeFuse>(step)) break;  // what follows is about the whole text
    if (std::holds_alternative<DecodeByteFallback>(step)) {
      if (const auto byte = fallback_byte(bytes)) return std::string(1, *byte);
    } else if (const auto* replace = std::get_if<DecodeReplace>(&step)) {
      bytes = replaced(*replace, bytes);
    } else if (const auto* strip = std::get_if<DecodeStrip>(&step)) {
      bytes = std::string(stripped(*strip, bytes));
    } else if (const auto* metaspace = std::get_if<DecodeMetaspace>(&step)) {
      bytes = replaced_text(bytes, metaspace->replacement, " ");
    }
  }
  return bytes;
}

StreamRule TokenDecoder::stream_rule() const {
  StreamRule rule;
  if (!present_) rule.separator.assign(1, ' ');
  bool fused = false;
  for (const DecodeStep& step : steps_) {
    fused |=
        std::holds_alternative<DecodeFuse>(step) || std::holds_alternative<DecodeByteLevel>(step);
    rule.replace_each_byte |= std::holds_alternative<DecodeByteFallback>(step);
    if (const auto* strip = std::get_if<DecodeStrip>(&step); strip != nullptr && fused) {
      rule.strip_content = strip->content;
      rule.strip_start = strip->start;
    }
    if (const auto* metaspace = std::get_if<DecodeMetaspace>(&step);
        metaspace != nullptr && metaspace->prepend_scheme != PrependScheme::kNever) {
      rule.first_token_drops = metaspace->replacement;
    }
  }
  return rule;
}

}  // namespace donar::text
