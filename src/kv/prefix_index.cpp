// The hash only spreads keys over buckets; equality of the whole key decides, so a collision cannot
// serve wrong text.
#include "kv/prefix_index.h"

#include "base/check.h"

namespace donar::kv {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {  // splitmix64's finaliser over a running state
  uint64_t z = hash + 0x9e3779b97f4a7c15u + value;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

size_t PrefixIndex::Hash::operator()(const PrefixKey& key) const {
  uint64_t hash = mix(key.parent, key.extra);
  for (int32_t token : key.tokens) hash = mix(hash, static_cast<uint32_t>(token));
  return static_cast<size_t>(hash);
}

std::optional<PrefixIndex::Entry> PrefixIndex::find(const PrefixKey& key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

PrefixIndex::Entry PrefixIndex::insert(const PrefixKey& key, int32_t block) {
  DONAR_CHECK(!contains(block), "block {} is published twice", block);
  const auto [place, is_new] = entries_.try_emplace(key, Entry{block, last_id_ + 1});
  if (is_new) {
    ++last_id_;
    keys_[static_cast<size_t>(block)] = key;
  }
  return place->second;
}

void PrefixIndex::erase(int32_t block) {
  std::optional<PrefixKey>& key = keys_[static_cast<size_t>(block)];
  if (!key) return;
  entries_.erase(*key);
  key.reset();
}

}  // namespace donar::kv
