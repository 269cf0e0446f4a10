// A trie over bytes with one value per string: added tokens, Unigram pieces. Built once, then only
// read.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/flat_map.h"

namespace donar::text {

class ByteTrie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr int32_t kNone = -1;

  ByteTrie() : values_(1, kNone), first_(256, false) {}

  // The last value of a string stays. Empty strings are not stored.
  void add(std::string_view text, int32_t value) {
    if (text.empty()) return;
    first_[static_cast<uint8_t>(text[0])] = true;
    Node node = kRoot;
    for (const char byte : text) {
      const uint64_t key = edge(node, byte);
      if (const Node* next = edges_.find(key)) {
        node = *next;
      } else {
        const Node created = static_cast<Node>(values_.size());
        edges_.insert(key, created);
        values_.push_back(kNone);
        node = created;
      }
    }
    values_[node] = value;
  }

  bool empty() const { return values_.size() == 1; }
  bool may_start(char byte) const { return first_[static_cast<uint8_t>(byte)]; }
  // Moves `node` along `byte`; false if no string goes on like this.
  bool step(Node& node, char byte) const {
    const Node* next = edges_.find(edge(node, byte));
    if (next == nullptr) return false;
    node = *next;
    return true;
  }
  int32_t value(Node node) const { return values_[node]; }

 private:
  static uint64_t edge(Node node, char byte) {
    return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
  }

  FlatMap<Node> edges_;
  std::vector<int32_t> values_;  // by node
  std::vector<uint8_t> first_;   // by byte: some string starts with it
};

}  // namespace donar::text
