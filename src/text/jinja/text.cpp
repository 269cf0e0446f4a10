// Text: bytes and their untrusted ranges. Ranges are merged as they are appended, so they stay
// sorted and disjoint.
#include "text/jinja/text.h"

#include <algorithm>
#include <utility>

namespace donar::text::jinja {

Text::Text(std::string bytes, bool untrusted) : bytes_(std::move(bytes)) {
  if (untrusted) mark_all_untrusted();
}

void Text::mark_all_untrusted() {
  ranges_.clear();
  add_range(0, bytes_.size());
}

bool Text::untrusted_at(size_t byte) const {
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), byte,
                                [](size_t b, const ByteRange& range) { return b < range.begin; });
  return after != ranges_.begin() && byte < std::prev(after)->end;
}

void Text::add_range(size_t begin, size_t end) {
  if (begin >= end) return;
  if (!ranges_.empty() && ranges_.back().end >= begin) {
    ranges_.back().end = end;
  } else {
    ranges_.push_back({begin, end});
  }
}

void Text::append(std::string_view bytes, bool untrusted) {
  const size_t begin = bytes_.size();
  bytes_.append(bytes);
  if (untrusted) add_range(begin, bytes_.size());
}

void Text::append(const Text& other) { append(other, 0, other.size()); }

void Text::append(const Text& other, size_t begin, size_t end) {
  if (begin >= end) return;
  const size_t base = bytes_.size();
  auto range = std::upper_bound(other.ranges_.begin(), other.ranges_.end(), begin,
                                [](size_t b, const ByteRange& r) { return b < r.end; });
  for (; range != other.ranges_.end() && range->begin < end; ++range) {
    add_range(base + std::max(range->begin, begin) - begin,
              base + std::min(range->end, end) - begin);
  }
  bytes_.append(other.bytes_, begin, end - begin);
}

Text Text::slice(size_t begin, size_t end) const {
  Text out;
  out.append(*this, begin, end);
  return out;
}

}  // namespace donar::text::jinja
