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
  // A string seen before moves to the new id; a second string of one id is found but not shown.
  // `id` >= 0.
  void add(std::string_view text, int32_t id);
  // `id` is no longer found by its string, but keeps it.
  void hide(int32_t id);

  int32_t find(std::string_view text) const;
  std::string_view at(int32_t id) const;  // empty for unknown ids
  bool contains(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries_.size() && entries_[id].offset != kAbsent;
  }
  int32_t id_limit() const { return static_cast<int32_t>(entries_.size()); }  // highest id + 1
  size_t count() const { return count_; }

 private:
  static constexpr size_t kAbsent = ~size_t{0};
  static constexpr int32_t kFree = -1;
  static constexpr int32_t kHidden = -2;
  struct Entry {
    size_t offset = kAbsent;
    uint32_t length = 0;
  };
  struct Slot {
    uint32_t hash = 0;
    int32_t id = kFree;
    size_t offset = 0;
    uint32_t length = 0;
  };
  void rehash(size_t slots);
  size_t position(uint32_t hash, std::string_view text) const;

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  size_t used_ = 0;
  size_t count_ = 0;
};

}  // namespace donar::text
