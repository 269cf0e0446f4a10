// Which block holds which tokens: a chain of full blocks, so that a prompt finds the longest prefix
// that is already computed. A pure map; BlockPool owns one and keeps it in step with the blocks'
// lives.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/kv_store.h"

namespace donar::kv {

// Names one published block content. Never used twice, so a child whose parent was evicted can
// never be found by mistake.
using ChainId = uint64_t;
inline constexpr ChainId kChainRoot = 0;  // the parent of a first block

struct PrefixKey {
  ChainId parent = kChainRoot;
  std::array<int32_t, kBlockTokens> tokens{};
  uint64_t extra = 0;  // what else the content depends on: cache_salt, on first blocks only

  bool operator==(const PrefixKey&) const = default;
};

// Engine thread only.
class PrefixIndex {
 public:
  struct Entry {
    int32_t block = 0;
    ChainId id = kChainRoot;
  };

  explicit PrefixIndex(int64_t num_blocks) : keys_(static_cast<size_t>(num_blocks)) {}

  std::optional<Entry> find(const PrefixKey& key) const;
  // The entry of `key`: a new one for `block`, or the one that is there already (of another block).
  Entry insert(const PrefixKey& key, int32_t block);
  void erase(int32_t block);  // nothing to do if the block has no entry
  bool contains(int32_t block) const { return keys_[static_cast<size_t>(block)].has_value(); }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Hash {
    size_t operator()(const PrefixKey& key) const;
  };
  std::unordered_map<PrefixKey, Entry, Hash> entries_;
  std::vector<std::optional<PrefixKey>> keys_;  // [num_blocks] the key under which a block is found
  ChainId last_id_ = kChainRoot;
};

}  // namespace donar::kv
