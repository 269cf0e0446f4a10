// A string of the template engine: UTF-8 bytes that remember which of them came from the caller.
// Literals of the template are trusted; messages, tools, documents and kwargs are not. Every
// operation on strings is built from append() and slice().
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"  // ByteRange

namespace donar::text::jinja {

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool untrusted = false);

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  const std::vector<ByteRange>& untrusted_ranges() const {
    return ranges_;
  }  // sorted, disjoint, none empty
  bool any_untrusted() const { return !ranges_.empty(); }
  bool untrusted_at(size_t byte) const;

  void append(std::string_view bytes, bool untrusted);
  void append(const Text& other);
  void append(const Text& other, size_t begin, size_t end);  // the bytes [begin, end) of `other`
  void mark_all_untrusted();
  Text slice(size_t begin, size_t end) const;

 private:
  void add_range(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteRange> ranges_;
};

}  // namespace donar::text::jinja
