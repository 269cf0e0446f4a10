// An open-addressing hash map from 64-bit keys: merges of a vocabulary, edges of a trie. Built
// once, then only read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace donar::text {

template <class Value>
class FlatMap {
 public:
  void reserve(size_t count) {
    size_t slots = 16;
    while (slots * 2 < count * 3) slots *= 2;
    if (slots > slots_.size()) rehash(slots);
  }

  // The last value of a key stays. Keys are below 2^64 - 1.
  void insert(uint64_t key, Value value) {
    if (size_ * 3 >= slots_.size() * 2) rehash(slots_.empty() ? 16 : slots_.size() * 2);
    Slot& slot = slots_[position(key)];
    if (slot.key == kEmpty) ++size_;
    slot = {key, value};
  }

  const Value* find(uint64_t key) const {
    if (slots_.empty()) return nullptr;
    const Slot& slot = slots_[position(key)];
    return slot.key == key ? &slot.value : nullptr;
  }

  template <class F>
  void for_each(F&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.key != kEmpty) visit(slot.value);
    }
  }

  size_t size() const { return size_; }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Value value{};
  };

  size_t position(uint64_t key) const {
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
    while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  void rehash(size_t slots) {
    std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
    shift_ = 64;
    for (size_t n = slots; n > 1; n /= 2) --shift_;
    for (const Slot& slot : old) {
      if (slot.key != kEmpty) slots_[position(slot.key)] = slot;
    }
  }

  std::vector<Slot> slots_;
  size_t size_ = 0;
  int shift_ = 64;
};

}  // namespace donar::text
