// A table whose slots carry 32 bits of hash, so that a miss rarely touches the arena.
#include "text/string_table.h"

#include <cstring>
#include <utility>

namespace donar::text {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  const __uint128_t product = static_cast<__uint128_t>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load(const char* bytes, size_t count) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, count);
  return word;
}

}  // namespace

uint32_t StringTable::hash_of(std::string_view text) {
  uint64_t h = 0x9E3779B97F4A7C15u ^ text.size();
  const char* bytes = text.data();
  size_t left = text.size();
  for (; left >= 8; bytes += 8, left -= 8) h = mix(h ^ load(bytes, 8), 0xD6E8FEB86659FD93u);
  if (left > 0) h = mix(h ^ load(bytes, left), 0xA0761D6478BD642Fu);
  return static_cast<uint32_t>(h ^ (h >> 32));
}

void StringTable::reserve(size_t count, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(count);
  size_t slots = 16;
  while (slots < count * 2) slots *= 2;
  if (slots > slots_.size()) rehash(slots);
}

void StringTable::rehash(size_t slots) {
  std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  for (const Slot& slot : old) {
    if (slot.id == kFree) continue;
    size_t at = slot.hash & (slots - 1);
    while (slots_[at].id != kFree) at = (at + 1) & (slots - 1);
    slots_[at] = slot;
  }
}

size_t StringTable::position(uint32_t hash, std::string_view text) const {
  size_t at = hash & (slots_.size() - 1);
  for (;; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.id == kFree) return at;
    if (slot.hash == hash && this->at(slot.id & ~kHidden) == text) return at;
  }
}

bool StringTable::add(std::string_view text, int32_t id) {
  if (used_ * 2 >= slots_.size()) rehash(slots_.empty() ? 16 : slots_.size() * 2);
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  const uint32_t hash = hash_of(text);
  Slot& slot = slots_[position(hash, text)];
  Entry& entry = entries_[static_cast<size_t>(id)];
  if (entry.offset != kAbsent) return slot.id == id;
  if (slot.id == kFree) {
    ++used_;
    entry = {arena_.size(), static_cast<uint32_t>(text.size())};
    arena_.append(text);
    slot.hash = hash;
  } else {
    entry = entries_[static_cast<size_t>(slot.id)];
  }
  slot.id = id;
  return true;
}

void StringTable::hide(int32_t id) {
  if (!contains(id)) return;
  const std::string_view text = at(id);
  Slot& slot = slots_[position(hash_of(text), text)];
  if (slot.id == id) slot.id |= kHidden;
}

int32_t StringTable::find(std::string_view text, uint32_t hash) const {
  if (slots_.empty()) return kNone;
  const int32_t id = slots_[position(hash, text)].id;
  return (id & kHidden) != 0 ? kNone : id;  // kFree has every bit and is kNone too
}

}  // namespace donar::text
