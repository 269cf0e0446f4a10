// Two tries: one for raw text, one for normalised text.
#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace donar::text {
namespace {

bool word_before(std::string_view text, size_t at) {
  return at > 0 && (classes_of(character_before(text.data(), text.data() + at).code) & kWord) != 0;
}

bool word_after(std::string_view text, size_t at) {
  return at < text.size() && (classes_of(character_at(text.data() + at).code) & kWord) != 0;
}

}  // namespace

void AddedTokens::add(AddedToken token, const StringTable& vocabulary, int32_t wanted_id) {
  if (token.content.empty()) return;
  int32_t id = 0;
  if (const auto known = ids_.find(token.content); known != ids_.end()) {
    id = known->second;
  } else if (id = vocabulary.find(token.content); id < 0) {
    const bool free =
        wanted_id >= 0 && !vocabulary.contains(wanted_id) && !tokens_.contains(wanted_id);
    id = free ? wanted_id : std::max(id_limit(), vocabulary.id_limit());
  }
  ids_.insert_or_assign(token.content, id);
  tokens_.insert_or_assign(id, std::move(token));
}

void AddedTokens::finish(const Normalizer& normalizer) {
  for (auto& [id, token] : tokens_) {
    token.decoded = token.content;
    if (token.normalized) {
      token.decoded = normalizer.apply(token.content, 0, /*track_origins=*/false).text;
      normalized_.add(token.decoded, id);
    } else {
      raw_.add(token.content, id);
    }
  }
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = tokens_.find(id);
  return found != tokens_.end() ? &found->second : nullptr;
}

std::optional<int32_t> AddedTokens::find(std::string_view content) const {
  const auto found = ids_.find(content);
  return found != ids_.end() ? std::optional(found->second) : std::nullopt;
}

void AddedTokens::split(std::string_view text, const ByteTrie& trie, Allowed allowed,
                        std::vector<Segment>& out) const {
  size_t open = 0;  // where the text that is not given out yet starts
  for (size_t at = 0; at < text.size();) {
    if (!trie.may_start(text[at])) {
      ++at;
      continue;
    }
    int32_t id = -1;
    size_t end = at;
    ByteTrie::Node node = ByteTrie::kRoot;
    for (size_t i = at; i < text.size() && trie.step(node, text[i]); ++i) {
      const int32_t candidate = trie.value(node);
      if (candidate >= 0 && allowed(at, i + 1, *find(candidate))) {
        id = candidate;
        end = i + 1;
      }
    }
    if (id < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = *find(id);
    size_t begin = at;
    at = end;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
    while (token.lstrip && begin > open) {
      const Character space = character_before(text.data(), text.data() + begin);
      if ((classes_of(space.code) & kSpace) == 0) break;
      begin -= space.length;
    }
    begin = std::max(begin, open);
    while (token.rstrip && end < text.size()) {
      const Character space = character_at(text.data() + end);
      if ((classes_of(space.code) & kSpace) == 0) break;
      end += space.length;
    }
    if (open < begin) out.push_back({open, begin, -1});
    out.push_back({begin, end, id});
    open = end;
  }
  if (open < text.size()) out.push_back({open, text.size(), -1});
}

}  // namespace donar::text
