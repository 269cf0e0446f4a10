// Token texts, bytes and numbers of the three forms.
#include "server/logprobs_json.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace donar::server {
namespace {

// JSON has no infinity; vLLM's floor.
double clamped(float logprob) {
  return std::isfinite(logprob) ? std::max<double>(logprob, -9999.0) : -9999.0;
}

std::string_view raw_bytes(const text::Tokenizer& tokenizer, int32_t token) {
  return tokenizer.is_special(token) ? tokenizer.token_string(token) : tokenizer.token_bytes(token);
}

size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// Whether the sequence of `size` bytes at `text` is well-formed UTF-8.
bool well_formed(std::string_view text, size_t size) {
  if (size == 0 || text.size() < size) return false;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xC0) != 0x80) return false;
  if (size == 3 && byte(0) == 0xE0 && byte(1) < 0xA0) return false;  // overlong
  if (size == 3 && byte(0) == 0xED && byte(1) > 0x9F) return false;  // surrogate
  if (size == 4 && byte(0) == 0xF0 && byte(1) < 0x90) return false;
  if (size == 4 && byte(0) == 0xF4 && byte(1) > 0x8F) return false;
  return true;
}

std::string to_utf8(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const size_t size = sequence_length(static_cast<unsigned char>(bytes[i]));
    if (well_formed(bytes.substr(i), size)) {
      out.append(bytes.substr(i, size));
      i += size;
    } else {
      out += "\xEF\xBF\xBD";
      ++i;
    }
  }
  return out;
}

size_t num_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

json::object chat_entry(const LogprobsStyle& style, const engine::TokenLogprob& entry) {
  json::object out;
  out["token"] = token_display(style, entry.token);
  out["logprob"] = clamped(entry.logprob);
  json::array bytes;
  for (const char c : raw_bytes(style.tokenizer, entry.token))
    bytes.push_back(static_cast<int64_t>(static_cast<unsigned char>(c)));
  out["bytes"] = std::move(bytes);
  return out;
}

}  // namespace

std::string token_display(const LogprobsStyle& style, int32_t token) {
  if (style.as_token_ids) return fmt::format("token_id:{}", token);
  return to_utf8(raw_bytes(style.tokenizer, token));
}

json::object chat_logprobs(const LogprobsStyle& style,
                           const std::vector<engine::PositionLogprobs>& positions) {
  json::array content;
  for (const engine::PositionLogprobs& position : positions) {
    if (position.empty()) continue;
    json::object entry = chat_entry(style, position.front());
    json::array top;
    for (size_t i = 1; i < position.size() && top.size() < static_cast<size_t>(style.num_top); ++i)
      top.push_back(chat_entry(style, position[i]));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  json::object out;
  out["content"] = std::move(content);
  out["refusal"] = nullptr;
  return out;
}

json::object completion_logprobs(const LogprobsStyle& style, std::span<const int32_t> tokens,
                                 const std::vector<engine::PositionLogprobs>& positions,
                                 size_t& offset) {
  json::array offsets, logprobs, texts, tops;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string text = token_display(style, tokens[i]);
    offsets.push_back(static_cast<int64_t>(offset));
    texts.push_back(json::value(text));
    offset += num_characters(text);
    if (i >= positions.size() || positions[i].empty()) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    const engine::PositionLogprobs& position = positions[i];
    logprobs.push_back(clamped(position.front().logprob));
    json::object top;  // the sampled token, then the best; equal spellings share an entry
    for (size_t k = 0; k < position.size() && k <= static_cast<size_t>(style.num_top); ++k)
      top.emplace(token_display(style, position[k].token), clamped(position[k].logprob));
    tops.push_back(std::move(top));
  }
  json::object out;
  out["text_offset"] = std::move(offsets);
  out["token_logprobs"] = std::move(logprobs);
  out["tokens"] = std::move(texts);
  out["top_logprobs"] = std::move(tops);
  return out;
}

json::array prompt_logprobs_json(const LogprobsStyle& style,
                                 const std::vector<engine::PositionLogprobs>& positions) {
  json::array out;
  for (const engine::PositionLogprobs& position : positions) {
    if (position.empty()) {
      out.push_back(nullptr);
      continue;
    }
    json::object entry;
    for (const engine::TokenLogprob& candidate : position) {
      json::object value;
      value["logprob"] = clamped(candidate.logprob);
      value["rank"] = candidate.rank;
      value["decoded_token"] = token_display(style, candidate.token);
      entry.emplace(fmt::format("{}", candidate.token), std::move(value));
    }
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace donar::server
