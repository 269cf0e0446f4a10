// The strings of a vocabulary by id, and ids by string: one arena and one flat hash. Built once,
// then only read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace donar::text {

class StringTable {
 public:
  static constexpr int32_t kNone = -1;

  void reserve(size_t count, size_t bytes);
  // False if `id` has another string already. A string seen before is found under the new id. `id`
  // is in [0, 2^30).
  [[nodiscard]] bool add(std::string_view text, int32_t id);
  // `id` is no longer found by its string, but keeps it.
  void hide(int32_t id);

  int32_t find(std::string_view text) const { return find(text, hash_of(text)); }
  // In two steps, for callers with many strings: the hash first, which starts the memory access.
  uint32_t prefetch(std::string_view text) const {
    const uint32_t hash = hash_of(text);
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]);
    return hash;
  }
  int32_t find(std::string_view text, uint32_t hash) const;
  std::string_view at(int32_t id) const {  // empty for unknown ids
    if (!contains(id)) return {};
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return {arena_.data() + entry.offset, entry.length};
  }
  bool contains(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries_.size() &&
           entries_[static_cast<size_t>(id)].offset != kAbsent;
  }
  int32_t id_limit() const { return static_cast<int32_t>(entries_.size()); }  // highest id + 1
  size_t count() const { return used_; }

 private:
  static constexpr size_t kAbsent = ~size_t{0};
  static constexpr int32_t kFree = -1;
  static constexpr int32_t kHidden = int32_t{1} << 30;  // a bit of Slot::id
  struct Entry {
    size_t offset = kAbsent;
    uint32_t length = 0;
  };
  struct Slot {
    uint32_t hash = 0;
    int32_t id = kFree;
  };
  static uint32_t hash_of(std::string_view text);
  void rehash(size_t slots);
  size_t position(uint32_t hash, std::string_view text) const;

  std::string arena_;
  std::vector<Entry> entries_;  // by id
  std::vector<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace donar::text
